package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
)

// configure writes the two files that Fermata needs to know, and starts it.
func configure(ctx context.Context, d *demo) error {
	for _, command := range []string{
		"mkdir -p /etc/fermata/policies.d /etc/fermata/writers.d",
		`cat > /etc/fermata/writers.d/postgresql.yaml <<'END'
session: [fermata-writer, postgresql]
user: postgres
components:
  - name: cluster
    paths: [/srv/pg/data, /srv/fast/wal, /srv/fast/space]
    excludes: [postmaster.pid]
    restore_method: stop the server, put the folders back, start it
END`,
		`cat > /etc/fermata/policies.d/db.yaml <<'END'
volumes: [/srv/pg, /srv/fast]
writers: [postgresql]
END`,
		"fermata config check",
		"systemctl start fermatad",
		"fermata status",
	} {
		if err := d.run(ctx, command); err != nil {
			return err
		}
	}
	return nil
}

// takeSet takes the set and finds out when its window was.
func takeSet(ctx context.Context, d *demo) error {
	d.asked.begin = time.Now()
	if err := d.run(ctx, "fermata snapshot create --policy db"); err != nil {
		return err
	}
	d.asked.end = time.Now()
	if err := d.run(ctx, "fermata snapshot list -o id,consistency,volumes,writers,freeze_window,duration"); err != nil {
		return err
	}
	shown, err := d.output(ctx, "fermata snapshot show latest:db --json")
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(shown), &d.set); err != nil {
		return fmt.Errorf("cannot read the manifest: %w", err)
	}
	if d.window, d.capture, err = timesOf(d.set); err != nil {
		return err
	}
	return d.check(d.set.Consistency == api.Application && len(d.set.Volumes) == 2 && len(d.set.Reasons) == 0,
		"the set has %d volumes and claims consistency %s: the hold was verified", len(d.set.Volumes), d.set.Consistency)
}

// timesOf is when a set's filesystems were frozen and when its volumes were captured, by the wall clock. A manifest has one
// wall time, that of the capture, and the phases by the monotonic clock.
func timesOf(m api.Manifest) (window, capture interval, err error) {
	var freeze, commit api.Phase
	for _, p := range m.Phases {
		switch p.Name {
		case "freeze":
			freeze = p
		case "commit":
			commit = p
		}
	}
	if freeze.Duration <= 0 || commit.Start <= freeze.Start || m.Window <= 0 || m.Created.IsZero() {
		return interval{}, interval{}, fmt.Errorf("internal error: the manifest does not tell the freeze window: %+v", m.Phases)
	}
	begin := m.Created.Add(freeze.Start - commit.Start)
	return interval{begin, begin.Add(m.Window)}, interval{m.Created, m.Created.Add(commit.Duration)}, nil
}
