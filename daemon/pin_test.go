package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/pools/acts"
)

// A pinned set outlives retention, a full pool, a delete, the use that it was taken for, and a restart.
func TestPin(t *testing.T) {
	w := newWorld(t)
	w.policy.Volumes = w.policy.Volumes[:2]
	w.policy.Retention = config.Retention{Last: 1, Minimum: 1}
	d := w.daemon()
	inPool(d, pooled{})
	var ids []string
	for range 3 {
		m, err := w.take(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, m.ID)
	}
	if err := d.PinSet(t.Context(), ids[0], "anna"); err != nil {
		t.Fatal(err)
	}
	if err := d.PinSet(t.Context(), ids[0], "bert"); err != nil { // she has it already
		t.Fatal(err)
	}
	if err := d.PinSet(t.Context(), "nosuch", "anna"); api.Of(err) != api.NotFound {
		t.Errorf("a set that does not exist: %v", err)
	}
	if err := d.DeleteSet(t.Context(), ids[0]); api.Of(err) != api.Refused || !d.exists(ids[0]) {
		t.Errorf("deleted all the same: %v", err)
	}
	got, err := d.PrunePolicy(t.Context(), "p", false)
	if err != nil || verdicts(got) != "keep (last); deleted (no rule keeps it); keep (it is pinned)" {
		t.Errorf("%s, %v", verdicts(got), err)
	}
	if said, err := do(t, d, acts.Delete, "vg/pool"); err == nil {
		t.Errorf("deleted for room: %s", said)
	}

	if pin := d.store.Load()[ids[0]].Pinned; pin == nil || pin.By != "anna" {
		t.Errorf("the state directory says %+v", pin)
	}
	d = w.daemon()
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m, _, err := d.find(ids[0]); err != nil || m.Pinned == nil || m.Pinned.By != "anna" {
		t.Fatalf("after a restart: %+v, %v", m.Pinned, err)
	}
	if err := d.UnpinSet(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	if err := d.DeleteSet(t.Context(), ids[0]); err != nil || d.exists(ids[0]) {
		t.Errorf("after it was unpinned: %v", err)
	}

	release := make(chan bool, 1)
	release <- true
	use := api.Use{Release: release, Mounted: func(id string) {
		if err := d.PinSet(t.Context(), id, "anna"); err != nil {
			t.Error(err)
		}
		ids[0] = id
	}}
	if _, err := d.UseSet(t.Context(), api.UseRequest{Request: api.Request{Policy: "p"}}, use, func(string) {}); err != nil || !d.exists(ids[0]) {
		t.Errorf("pinned while it was used: %v, there: %v", err, d.exists(ids[0]))
	}
}

// Of a set whose manifest is lost nobody knows whether it was pinned: it outlives retention and a full pool until somebody says so.
func TestPinLost(t *testing.T) {
	for name, test := range map[string]struct {
		decide func(d *Daemon, id string) error
		then   string
	}{
		"pinned":   {func(d *Daemon, id string) error { return d.PinSet(t.Context(), id, "bert") }, "keep (it is pinned)"},
		"unpinned": {func(d *Daemon, id string) error { return d.UnpinSet(t.Context(), id) }, "deleted (no rule keeps it)"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.policy.Volumes = w.policy.Volumes[:2]
			w.policy.Retention = config.Retention{Last: 1, Minimum: 1}
			d := w.daemon()
			var ids []string
			for range 2 {
				m, err := w.take(t.Context(), d)
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, m.ID)
			}
			if err := d.PinSet(t.Context(), ids[0], "anna"); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(w.dir, "state", "sets", ids[0]+".json")); err != nil {
				t.Fatal(err)
			}
			d = w.daemon()
			inPool(d, pooled{})
			if err := d.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := d.ReportSet(t.Context(), ids[0], api.ReportOptions{Outcome: api.BackupOK}); err != nil { // which writes one
				t.Fatal(err)
			}
			if err := d.refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			got, err := d.PrunePolicy(t.Context(), "p", false)
			if err != nil || !strings.HasPrefix(verdicts(got), "keep (last); keep (its manifest is lost: ") {
				t.Errorf("%s, %v", verdicts(got), err)
			}
			if said, err := do(t, d, acts.Delete, "vg/pool"); err == nil {
				t.Errorf("deleted for room: %s", said)
			}
			if err := test.decide(d, ids[0]); err != nil {
				t.Fatal(err)
			}
			got, err = d.PrunePolicy(t.Context(), "p", false)
			if err != nil || verdicts(got) != "keep (last); "+test.then {
				t.Errorf("then: %s, %v", verdicts(got), err)
			}
		})
	}
}
