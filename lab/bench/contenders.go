package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
)

// sample is what one round took. Zero: this contender has no such figure.
type sample struct {
	window, whole time.Duration
	stall         time.Duration // the longest of an application
	phases        []api.Phase   // of the window
}

// contender takes snapshots of the first n volumes, and removes them again.
type contender interface {
	name() string
	round(ctx context.Context, n int) (sample, error)
	rounds(n int) int // how often it is worth doing
}

// fermata is the real thing: the CLI, the bus, the daemon under systemd, the guard.
type fermata struct{ *group }

func (fermata) name() string     { return "fermata" }
func (fermata) rounds(n int) int { return frequent(n) }

func (f fermata) round(_ context.Context, n int) (sample, error) {
	argv := []string{"fermata", "snapshot", "create", "--json"}
	for _, v := range f.vols[:n] {
		argv = append(argv, v.of.MountPoint)
	}
	begin := time.Now()
	out, err := command(argv...)
	s := sample{whole: time.Since(begin)}
	if err != nil {
		return s, err
	}
	var m api.Manifest
	if err := json.Unmarshal(out, &m); err != nil {
		return s, fmt.Errorf("cannot read the manifest: %w", err)
	}
	if m.Consistency != api.Filesystem || len(m.Volumes) != n {
		return s, fmt.Errorf("the set has %d volumes and %s consistency", len(m.Volumes), m.Consistency)
	}
	s.window = m.Window
	for _, p := range m.Phases {
		if p.Window {
			s.phases = append(s.phases, p)
		}
	}
	_, err = command("fermata", "snapshot", "delete", m.ID)
	return s, err
}

// plain makes one snapshot after the other, without Fermata: no common instant, but it is what the whole operation is
// measured by.
type plain struct{ *group }

func (p plain) name() string   { return p.vols[0].take[0] }
func (plain) rounds(n int) int { return rare(n) }

func (p plain) round(_ context.Context, n int) (sample, error) {
	begin := time.Now()
	if err := take(p.vols[:n]); err != nil {
		return sample{}, err
	}
	return sample{whole: time.Since(begin)}, drop(p.vols[:n])
}

func take(vols []volume) error {
	for _, v := range vols {
		if _, err := command(v.take...); err != nil {
			return err
		}
	}
	return nil
}

func drop(vols []volume) error {
	for _, v := range vols {
		if _, err := command(v.drop...); err != nil {
			return err
		}
	}
	return nil
}

// classic is the recipe that everybody copies.
type classic struct{ *group }

func (classic) name() string     { return "classic" }
func (classic) rounds(n int) int { return rare(n) }

func (c classic) round(_ context.Context, n int) (sample, error) {
	vols := c.vols[:n]
	begin := time.Now()
	err := c.hold(vols)
	s := sample{window: time.Since(begin)}
	s.whole = s.window
	if err != nil {
		return s, err
	}
	return s, errors.Join(drop(vols), c.heal(vols))
}

func (c classic) hold(vols []volume) (err error) {
	for _, v := range vols {
		if _, err := command("fsfreeze", "--freeze", v.of.MountPoint); err != nil {
			return err
		}
		defer func() {
			_, e := command("fsfreeze", "--unfreeze", v.of.MountPoint)
			err = errors.Join(err, e)
		}()
	}
	return take(vols)
}

// heal undoes what the recipe does to the volumes: they count as frozen for ever ("Can't mount, blockdev is frozen"),
// and only a new device forgets it.
func (c classic) heal(vols []volume) error {
	for _, v := range vols {
		if err := v.unmount(); err != nil {
			return err
		}
		for _, activate := range []string{"n", "y"} {
			if _, err := command("lvchange", "-qq", "--activate", activate, vg+"/"+v.lv); err != nil {
				return err
			}
		}
		if err := v.mount(); err != nil {
			return err
		}
	}
	return nil
}

// How many rounds a set of n volumes gets: as many as a quarter of an hour in the lab allows.
func frequent(n int) int { return max(10, 40/n) }
func rare(n int) int     { return max(5, 12/n) }
