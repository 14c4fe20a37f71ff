package daemon

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/hooks"
)

// finished is a world with a set, and the daemon that took it.
func finished(t *testing.T) (*world, *Daemon, string) {
	t.Helper()
	w := newWorld(t)
	d := w.daemon()
	m, err := w.take(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return w, d, m.ID
}

func unheard(string) {}

// kept is a set's manifest, as the daemon tells it and as the next one reads it.
func (w *world) kept(t *testing.T, d *Daemon, id string) [2]api.Manifest {
	t.Helper()
	next := w.daemon()
	if err := next.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var out [2]api.Manifest
	for i, x := range []*Daemon{d, next} {
		for _, m := range x.Sets() {
			if m.ID == id {
				out[i] = m
			}
		}
	}
	return out
}

func TestVerifySet(t *testing.T) {
	w, d, id := finished(t)
	before := w.shown(t, "recover")
	v, err := d.VerifySet(t.Context(), id[:len(id)-2], unheard)
	if err != nil {
		t.Fatal(err)
	}
	var checked []string
	for _, c := range v.Checks {
		checked = append(checked, c.MountPoint+c.Writer)
	}
	if !v.OK || !slices.Equal(checked, []string{w.path("a"), w.path("b"), w.path("img"), "db"}) {
		t.Errorf("got %+v", v)
	}
	ev := w.writers["db"].events[0]
	if ev.Set != id || ev.Policy != "p" || len(ev.Volumes) != 3 || ev.Prepared["phase"] != "prepare" || len(ev.Stage.Mounts) != 3 {
		t.Errorf("told %+v", ev)
	}
	if !strings.HasPrefix(ev.Stage.Mounts[0].Device, "/fake/") || len(w.snapshots()) != 4 {
		t.Errorf("mounted %+v, left %+v", ev.Stage.Mounts, w.snapshots())
	}
	after, written := w.shown(t, "recover"), w.shown(t, "verify")
	if written["alpha/a"] != "" || after["alpha/a"] != before["alpha/a"] {
		t.Errorf("the set has changed: %v, %v", after, written)
	}
	for _, m := range w.kept(t, d, id) {
		if m.Verified == nil || !m.Verified.OK || len(m.Verified.Checks) != 4 || m.Verified.Time.IsZero() {
			t.Errorf("the manifest has %+v", m.Verified)
		}
	}
}

// A filesystem on which a component lies of a writer that verifies is not looked at once more.
func TestVerifyVouched(t *testing.T) {
	w := newWorld(t)
	w.writing[1].Components = []config.Component{{Name: "c", Paths: []string{w.path("b") + "/db"}}}
	d := w.daemon()
	m, err := w.take(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	v, err := d.VerifySet(t.Context(), m.ID, unheard)
	if err != nil || len(v.Checks) != 3 || slices.ContainsFunc(v.Checks, func(c api.Check) bool { return c.MountPoint == w.path("b") }) {
		t.Errorf("got %+v, %v", v, err)
	}
}

// What is damaged is a result; that nobody could look is an error. Neither leaves anything.
func TestVerifyFails(t *testing.T) {
	for call, damaged := range map[string]bool{
		"writer-verify db#1": true, "check b#1": true, "Copy beta#1": false, "Expose alpha#2": false, "Delete alpha#1": false,
	} {
		t.Run(call, func(t *testing.T) {
			w, d, id := finished(t)
			w.reset()
			w.tap = on(call, call != "Delete alpha#1", func() error { return errInjected })
			v, err := d.VerifySet(t.Context(), id, unheard)
			w.tap = nil
			if damaged != (err == nil) || damaged && (v.OK || len(v.Checks) != 4) || !damaged && !errors.Is(err, errInjected) {
				t.Errorf("got %+v, %v", v, err)
			}
			if call != "Delete alpha#1" && len(w.snapshots()) != 4 {
				t.Errorf("left %+v", w.snapshots())
			}
			if v, err := d.VerifySet(t.Context(), id, unheard); call != "Delete alpha#1" && (err != nil || !v.OK) {
				t.Errorf("once more: %+v, %v", v, err)
			}
			w.clean(t, d)
		})
	}
}

// A set that has lost a snapshot is not good because the others are. That it was good before does not stand any more.
func TestVerifyLost(t *testing.T) {
	for name, manifest := range map[string]bool{"with its manifest": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			w, d, id := finished(t)
			if v, err := d.VerifySet(t.Context(), id, unheard); err != nil || !v.OK {
				t.Fatalf("got %+v, %v", v, err)
			}
			if err := w.storage["beta"].Remove(w.snapshots()[3].Name); err != nil { // behind the daemon's back
				t.Fatal(err)
			}
			want := "does not exist any more"
			if !manifest {
				want = "3 of 4 snapshots exist"
				if err := d.store.Remove(id); err != nil {
					t.Fatal(err)
				}
			}
			w.reset()
			v, err := d.VerifySet(t.Context(), id, unheard)
			if err != nil || v.OK || len(v.Checks) != 1 || !strings.Contains(v.Checks[0].Error, want) || len(w.writers) > 0 {
				t.Errorf("got %+v, %v", v, err)
			}
			for _, m := range w.kept(t, d, id) {
				if m.Verified == nil || m.Verified.OK {
					t.Errorf("the manifest has %+v", m.Verified)
				}
			}
		})
	}
}

// While a set is verified, others are taken, and it is not touched.
func TestVerifyBeside(t *testing.T) {
	w, d, id := finished(t)
	w.reset()
	w.tap = on("writer-verify db#1", false, func() error {
		w.tap = nil
		if m, err := d.CreateSet(t.Context(), api.Request{Volumes: []string{w.path("a")}}, nil); err != nil || m.State != api.Complete {
			t.Errorf("another set: %+v, %v", m, err)
		}
		_, mount := d.MountSet(t.Context(), id, api.MountOptions{})
		_, verify := d.VerifySet(t.Context(), id, unheard)
		for _, err := range []error{mount, verify, d.UmountSet(t.Context(), id), d.DeleteSet(t.Context(), id)} {
			if api.Of(err) != api.Busy || !strings.Contains(err.Error(), "it is being verified") {
				t.Errorf("got %v", err)
			}
		}
		return nil
	})
	if v, err := d.VerifySet(t.Context(), id, unheard); err != nil || !v.OK {
		t.Errorf("got %+v, %v", v, err)
	}
	if err := d.DeleteSet(t.Context(), id); err != nil {
		t.Error(err)
	}
}

func TestReportSet(t *testing.T) {
	w, d, id := finished(t)
	if _, err := d.ReportSet(t.Context(), id, api.ReportOptions{Outcome: "fine"}); api.Of(err) != api.Invalid {
		t.Errorf("got %v", err)
	}
	for i, o := range []api.ReportOptions{
		{Outcome: "failed", By: "root"}, {Outcome: "ok"}, {Outcome: "ok", By: "backup", Force: true},
	} {
		w.reset()
		r, err := d.ReportSet(t.Context(), id, o)
		if i == 1 {
			if api.Of(err) != api.Invalid || !strings.Contains(err.Error(), "its backup was reported as failed") || len(w.writers) > 0 {
				t.Errorf("once more: %+v, %v", r, err)
			}
			continue
		}
		if err != nil || len(r.Writers) != 1 || r.Writers[0].Writer != "db" || r.Writers[0].Error != "" || r.By != o.By {
			t.Fatalf("got %+v, %v", r, err)
		}
		db := w.writers["db"]
		if !slices.Equal(db.told, []hooks.Phase{hooks.PhaseReport}) || string(db.events[0].Outcome) != o.Outcome || db.events[0].Stage != nil {
			t.Errorf("told %v: %+v", db.told, db.events)
		}
		for _, m := range w.kept(t, d, id) {
			if m.Reported == nil || m.Reported.Outcome != o.Outcome || m.Reported.By != o.By || m.Reported.Time.IsZero() {
				t.Errorf("the manifest has %+v", m.Reported)
			}
		}
	}
	w.clean(t, d)
}

// A writer that failed is named; one that has not held hears of no good backup; one that is gone is passed over.
func TestReportIsTrue(t *testing.T) {
	w := newWorld(t)
	w.policy.Volumes = w.policy.Volumes[:3]
	w.writing[1].OnFailure = config.OnFailureDegrade
	d := w.daemon()
	w.tap = on("writer-freeze db#1", false, func() error { return errInjected })
	m, err := w.take(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	w.tap = nil
	r, err := d.ReportSet(t.Context(), m.ID, api.ReportOptions{Outcome: api.BackupOK})
	if err != nil || len(r.Writers) != 1 || !strings.Contains(r.Writers[0].Skipped, "it did not hold in this set") {
		t.Errorf("got %+v, %v", r, err)
	}
	w.tap = on("writer-report db#1", false, func() error { return errInjected })
	r, err = d.ReportSet(t.Context(), m.ID, api.ReportOptions{Outcome: api.BackupFailed, Force: true})
	if err != nil || !strings.Contains(r.Writers[0].Error, "injected") {
		t.Errorf("got %+v, %v", r, err)
	}
	w.tap = nil
	delete(d.o.Config.Writers, "db")
	r, err = d.ReportSet(t.Context(), m.ID, api.ReportOptions{Outcome: api.BackupFailed, Force: true})
	if err != nil || !strings.Contains(r.Writers[0].Skipped, "not declared any more") {
		t.Errorf("got %+v, %v", r, err)
	}
}
