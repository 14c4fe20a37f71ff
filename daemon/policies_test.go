package daemon

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/providertest"
)

// verdicts in words, newest set first.
func verdicts(list []api.Verdict) string {
	var out []string
	for _, v := range list {
		word := "drop"
		switch {
		case v.Keep:
			word = "keep"
		case v.Deleted:
			word = "deleted"
		case v.Error != "":
			word = "failed"
		}
		out = append(out, word+" ("+strings.Join(v.Reasons, ", ")+")")
	}
	return strings.Join(out, "; ")
}

func TestPrune(t *testing.T) {
	w := newWorld(t)
	w.policy.Volumes = w.policy.Volumes[:3]
	w.policy.Retention = config.Retention{Last: 1, Minimum: 1}
	d := w.daemon()
	var ids []string
	for range 3 {
		m, err := w.take(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, m.ID)
	}
	// A set of the same policy that another host has taken.
	w.storage["alpha"].Put(provider.Snapshot{Provider: "alpha", Set: provider.Set{ID: "20200101T000000_beef", Policy: "p", Members: 1}, Machine: "0123456789abcdef",
		Name: "alpha/a.other", Origin: "alpha/a", Consistency: "filesystem"}, providertest.Content{})
	d.o.Machine = "fedcba9876543210"
	if err := d.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.MountSet(t.Context(), ids[1], api.MountOptions{}); err != nil {
		t.Fatal(err)
	}
	const plan = "keep (last); keep (it is mounted); "
	got, err := d.PrunePolicy(t.Context(), "p", true)
	if err != nil || verdicts(got) != plan+"drop (no rule keeps it)" || len(d.Sets()) != 5 {
		t.Errorf("a dry run: %s, %v; %d sets", verdicts(got), err, len(d.Sets()))
	}
	p := d.Policies()
	if len(p) != 1 || p[0].Sets != 3 || !p[0].Prunes || p[0].Last.IsZero() {
		t.Errorf("policies: %+v", p)
	}

	// One that cannot be deleted stays, and says why.
	stuck := errors.New("no more descriptors")
	w.tap = func(call string, after bool) error {
		if strings.HasPrefix(call, "Mark ") && !after {
			return stuck
		}
		return nil
	}
	got, err = d.PrunePolicy(t.Context(), "p", false)
	if err != nil || verdicts(got) != plan+"failed (no rule keeps it)" || !strings.Contains(got[2].Error, stuck.Error()) {
		t.Errorf("stuck: %s, %+v, %v", verdicts(got), got, err)
	}
	w.tap = nil
	got, err = d.PrunePolicy(t.Context(), "p", false)
	if err != nil || verdicts(got) != plan+"deleted (no rule keeps it)" || len(d.Sets()) != 4 || d.exists(ids[0]) {
		t.Errorf("%s, %v; %d sets", verdicts(got), err, len(d.Sets()))
	}
	if err := d.UmountSet(t.Context(), ids[1]); err != nil {
		t.Fatal(err)
	}
	got, err = d.PrunePolicy(t.Context(), "p", false)
	if err != nil || verdicts(got) != "keep (last); deleted (no rule keeps it)" {
		t.Errorf("%s, %v", verdicts(got), err)
	}
	if _, err := d.PrunePolicy(t.Context(), "nosuch", false); api.Of(err) != api.Invalid {
		t.Errorf("an unknown policy: %v", err)
	}
	if !d.exists(ids[2]) || len(d.Sets()) != 3 {
		t.Errorf("left: %d sets", len(d.Sets()))
	}
}

// A set of which a part is out of sight is neither good nor lost: it is kept, and is whole again when that is back. One that
// has lost a snapshot for certain goes, as soon as there is a newer good one.
func TestPruneKeepsWhatIsOutOfSight(t *testing.T) {
	const kept = "not all of it can be seen: "
	for _, x := range []struct {
		name string
		hide func(w *world, d *Daemon)
		want string
	}{
		{"a provider cannot list", func(w *world, _ *Daemon) {
			w.tap = func(call string, _ bool) error {
				if strings.HasPrefix(call, "Snapshots beta") {
					return errInjected
				}
				return nil
			}
		}, kept + "provider beta: cannot list the snapshots: injected"},
		{"a provider is not in use", func(_ *world, d *Daemon) {
			d.o.Providers = slices.DeleteFunc(d.o.Providers, func(p provider.Provider) bool { return p.Name() == "beta" })
		}, kept + "provider beta, which has its snapshot beta/img."},
		{"a provider that cannot tell what is lost", func(w *world, d *Daemon) {
			for i, p := range d.o.Providers {
				d.o.Providers[i] = struct{ provider.Provider }{p}
			}
			w.storage["beta"].Detach("beta/img", true)
		}, kept + "provider beta does not list beta/img."},
		{"a disk is not attached", func(w *world, _ *Daemon) { w.storage["beta"].Detach("beta/img", true) }, kept + "where its snapshot beta/img."},
		{"the manifest is lost, too", func(w *world, d *Daemon) {
			w.storage["beta"].Detach("beta/img", true)
			for _, s := range w.snapshots() {
				if err := d.store.Remove(s.Set.ID); err != nil {
					t.Error(err)
				}
			}
		}, "its manifest is lost: "},
		{"a snapshot is lost", func(w *world, _ *Daemon) {
			for _, s := range w.snapshots() {
				if s.Origin == "beta/img" {
					if err := w.storage["beta"].Remove(s.Name); err != nil {
						t.Error(err)
					}
				}
			}
		}, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t)
			w.policy.Retention = config.Retention{Last: 100, Minimum: 50}
			d := w.daemon()
			var last api.Manifest
			for range 2 {
				m, err := w.take(t.Context(), d)
				if err != nil {
					t.Fatal(err)
				}
				last = *m
			}
			w.policy.Volumes = w.policy.Volumes[:1] // a newer set, of what stays in sight
			d = w.daemon()
			if _, err := w.take(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			d = w.daemon()
			x.hide(w, d)
			_ = d.Start(t.Context())
			got, err := d.PrunePolicy(t.Context(), "p", false)
			if err != nil || len(got) != 3 {
				t.Fatalf("%+v, %v", got, err)
			}
			for _, v := range got[1:] {
				if reasons := strings.Join(v.Reasons, ", "); v.Deleted != (x.want == "") || !strings.HasPrefix(reasons, x.want) {
					t.Errorf("deleted: %v, because %s; want %q", v.Deleted, reasons, x.want)
				}
			}
			if !got[0].Keep || x.want != "" && len(w.storage["alpha"].Snapshots()) != 6 {
				t.Errorf("%+v; %d snapshots of alpha are left", got, len(w.storage["alpha"].Snapshots()))
			}
			if x.want == "" {
				return
			}
			w.tap = nil
			w.storage["beta"].Detach("beta/img", false)
			d = w.daemon()
			if err := d.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if m, snaps, err := d.find(last.ID); err != nil || m.State != api.Complete || len(snaps) != 4 {
				t.Errorf("back in sight: %+v, %v", m, err)
			}
		})
	}
}
