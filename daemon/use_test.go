package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/hooks"
)

// use has a set used: while it is, in is called.
func (w *world) use(ctx context.Context, d *Daemon, r api.UseRequest, in func(id string, release chan<- bool)) (*api.Manifest, error) {
	release := make(chan bool, 1)
	return d.UseSet(ctx, r, api.Use{Mounted: func(id string) { in(id, release) }, Release: release}, unheard)
}

// ofPolicy are the sets of policy p; the world has an older one.
func ofPolicy(d *Daemon) []api.Manifest {
	return slices.DeleteFunc(d.Sets(), func(m api.Manifest) bool { return m.Policy != "p" })
}

// reported is what the writer heard last.
func (w *world) reported(t *testing.T, outcome string) {
	t.Helper()
	db := w.writers["db"]
	last := len(db.told) - 1
	if last < 0 || db.told[last] != hooks.PhaseReport || string(db.events[last].Outcome) != outcome {
		t.Errorf("the writer heard %v, not %s at the end", db.told, outcome)
	}
}

func TestUseSet(t *testing.T) {
	taken := api.UseRequest{Request: api.Request{Policy: "p"}}
	done := func(t *testing.T, d *Daemon) func(string, chan<- bool) {
		return func(id string, release chan<- bool) {
			if m := ofPolicy(d); len(m) != 1 || m[0].ID != id || len(m[0].Mounts) == 0 {
				t.Errorf("there are %+v", m)
			}
			release <- true
		}
	}
	t.Run("taken for it", func(t *testing.T) {
		w := newWorld(t)
		d := w.daemon()
		m, err := w.use(t.Context(), d, taken, done(t, d))
		if err != nil || len(m.Mounts) == 0 || len(ofPolicy(d)) != 0 {
			t.Errorf("got %+v, %v; left are %d sets", m.ID, err, len(ofPolicy(d)))
		}
		w.reported(t, api.BackupOK)
		w.clean(t, d)
	})
	t.Run("kept", func(t *testing.T) {
		w := newWorld(t)
		d := w.daemon()
		r := taken
		r.Keep = true
		_, err := w.use(t.Context(), d, r, done(t, d))
		if s := ofPolicy(d); err != nil || len(s) != 1 || len(s[0].Mounts) != 0 || s[0].Reported == nil || s[0].Reported.Outcome != api.BackupOK {
			t.Errorf("%v; left are %+v", err, s)
		}
	})
	t.Run("there before", func(t *testing.T) {
		w, d, id := finished(t)
		for range 2 { // it is reported on each time
			if _, err := w.use(t.Context(), d, api.UseRequest{Set: id}, done(t, d)); err != nil {
				t.Error(err)
			}
		}
		if s := ofPolicy(d); len(s) != 1 || len(s[0].Mounts) != 0 {
			t.Errorf("left are %+v", s)
		}
	})
	t.Run("its requester is gone, and something has it open for a while", func(t *testing.T) {
		w := newWorld(t)
		d := w.daemon()
		ctx, cancel := context.WithCancel(t.Context())
		busy := 3
		w.tap = func(call string, after bool) error {
			if strings.HasPrefix(call, "unmount#") && !after && busy > 0 {
				busy--
				return unix.EBUSY
			}
			return nil
		}
		m, err := w.use(ctx, d, taken, func(string, chan<- bool) { cancel() })
		if api.Of(err) != api.Cancelled || m == nil || len(ofPolicy(d)) != 0 || busy != 0 {
			t.Errorf("got %+v, %v; left are %d sets; busy %d", m, err, len(ofPolicy(d)), busy)
		}
		w.reported(t, api.BackupFailed)
	})
	t.Run("it cannot be mounted", func(t *testing.T) {
		w := newWorld(t)
		d := w.daemon()
		w.tap = on("mount#1", false, func() error { return errInjected })
		_, err := w.use(t.Context(), d, taken, func(string, chan<- bool) { t.Error("it is used") })
		if !errors.Is(err, errInjected) || len(ofPolicy(d)) != 0 {
			t.Errorf("%v; left are %d sets", err, len(ofPolicy(d)))
		}
	})
	t.Run("somebody has it mounted", func(t *testing.T) {
		w, d, id := finished(t)
		if _, err := d.MountSet(t.Context(), id, api.MountOptions{}); err != nil {
			t.Fatal(err)
		}
		_, err := w.use(t.Context(), d, api.UseRequest{Set: id}, func(string, chan<- bool) { t.Error("it is used") })
		if s := ofPolicy(d); api.Of(err) != api.Invalid || len(s) != 1 || len(s[0].Mounts) == 0 || s[0].Reported != nil {
			t.Errorf("%v; mounted at %v, reported %v", err, s[0].Mounts, s[0].Reported)
		}
	})
	t.Run("the daemon stops", func(t *testing.T) {
		w := newWorld(t)
		d := w.daemon()
		life, stop := context.WithCancel(t.Context())
		if err := d.Start(life); err != nil {
			t.Fatal(err)
		}
		_, err := w.use(life, d, taken, func(string, chan<- bool) { stop() })
		if s := ofPolicy(d); err == nil || !strings.Contains(err.Error(), "is left as it is") || len(s) != 1 || len(s[0].Mounts) == 0 {
			t.Errorf("%v; left are %+v", err, s)
		}
	})
	t.Run("only planned", func(t *testing.T) {
		w := newWorld(t)
		r := taken
		r.DryRun = true
		if _, err := w.use(t.Context(), w.daemon(), r, nil); api.Of(err) != api.Invalid {
			t.Error(err)
		}
	})
}
