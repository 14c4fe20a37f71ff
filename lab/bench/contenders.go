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
	phases        []api.Phase // of the window
}

// contender takes snapshots of the first n volumes, and removes them again.
type contender interface {
	name() string
	round(ctx context.Context, n int) (sample, error)
	rounds(n int) int // how often it is worth doing
}

// fermata is the real thing: the CLI, the bus, the daemon under systemd, the guard.
type fermata struct{ *stage }

func (fermata) name() string     { return "fermata" }
func (fermata) rounds(n int) int { return frequent(n) }

func (f fermata) round(_ context.Context, n int) (sample, error) {
	argv := []string{"fermata", "snapshot", "create", "--json"}
	for _, v := range f.calm[:n] {
		argv = append(argv, v.point)
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

// lvcreate makes one snapshot after the other: no common instant, but it is what the whole operation is measured by.
type lvcreate struct{ *stage }

func (lvcreate) name() string     { return "lvcreate" }
func (lvcreate) rounds(n int) int { return rare(n) }

func (l lvcreate) round(_ context.Context, n int) (sample, error) {
	begin := time.Now()
	if err := l.snapshots(l.calm[:n]); err != nil {
		return sample{}, err
	}
	return sample{whole: time.Since(begin)}, l.remove(l.calm[:n])
}

func (s *stage) snapshots(vols []volume) error {
	for _, v := range vols {
		if _, err := command("lvcreate", "-qq", "-y", "--snapshot", "--name", v.lv+"-snap", vg+"/"+v.lv); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) remove(vols []volume) error {
	argv := []string{"lvremove", "-qq", "-y", "-f"}
	for _, v := range vols {
		argv = append(argv, vg+"/"+v.lv+"-snap")
	}
	_, err := command(argv...)
	return err
}

// classic is the recipe that everybody copies.
type classic struct{ *stage }

func (classic) name() string     { return "classic" }
func (classic) rounds(n int) int { return rare(n) }

func (c classic) round(_ context.Context, n int) (sample, error) {
	vols := c.stage.classic[:n]
	begin := time.Now()
	err := c.hold(vols)
	s := sample{window: time.Since(begin)}
	s.whole = s.window
	if err != nil {
		return s, err
	}
	return s, errors.Join(c.stage.remove(vols), c.heal(vols))
}

func (c classic) hold(vols []volume) (err error) {
	for _, v := range vols {
		if _, err := command("fsfreeze", "--freeze", v.point); err != nil {
			return err
		}
		defer func() {
			_, e := command("fsfreeze", "--unfreeze", v.point)
			err = errors.Join(err, e)
		}()
	}
	return c.snapshots(vols)
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
