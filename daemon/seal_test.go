package daemon

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/providertest"
	"github.com/fermata-project/fermata/hooks"
)

// shown are what the snapshots of a set have from a phase, by origin.
func (w *world) shown(t *testing.T, key string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, s := range w.snapshots() {
		f := providertest.NewFake(s.Provider, w.storage[s.Provider])
		device, err := f.Expose(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		content, err := w.storage[s.Provider].Exposed(device)
		if err != nil {
			t.Fatal(err)
		}
		out[s.Origin] = content[key]
		if err := w.storage[s.Provider].WriteExposed(device, "late", "x"); err == nil {
			t.Errorf("%s can be written to", s.Name)
		}
		if err := f.Hide(t.Context(), []provider.Snapshot{s}); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// A writer that asks for it recovers its data on the snapshots, where the live filesystems are, after the thaw and before the
// set can be seen; what it wrote is in the set, and nothing can be written afterwards.
func TestRecoverAndSeal(t *testing.T) {
	w := newWorld(t)
	d := w.daemon()
	var visible []string
	w.tap = on("writer-recover db#1", false, func() error {
		for _, s := range w.snapshots() {
			if !s.Armed {
				visible = append(visible, s.Name)
			}
		}
		if f := w.frozen("ours"); len(f) > 0 {
			visible = append(visible, f...)
		}
		return nil
	})
	m, err := w.take(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	w.tap = nil
	w.everything(t, d, m)
	if len(visible) > 0 {
		t.Errorf("when it recovered there were %v", visible)
	}
	want := map[string]string{"alpha/a": "a", "alpha/b": "b", "beta/img": "img", "beta/raw": ""}
	if got := w.shown(t, "recover"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the snapshots show %v", got)
	}
	db, web := w.writers["db"], w.writers["web"]
	if !slices.Equal(db.told, []hooks.Phase{hooks.PhasePrepare, hooks.PhaseFreeze, hooks.PhaseThaw, hooks.PhaseRecover, hooks.PhasePost}) ||
		slices.Contains(web.told, hooks.PhaseRecover) {
		t.Errorf("told %v, %v", db.told, web.told)
	}
	ev := db.events[3]
	if len(ev.Stage.Mounts) != 3 || ev.Prepared["phase"] != "prepare" {
		t.Errorf("told %+v, on %+v", ev, ev.Stage)
	}
	for _, x := range ev.Stage.Mounts {
		if !slices.Contains(ev.Volumes, x.Path) || x.ReadOnly || x.FSType != "ext4" || x.Options != "" {
			t.Errorf("mounted: %+v", x)
		}
	}
}

// What a failed recovery costs is the writer's to say; what is kept is sealed.
func TestRecoverFails(t *testing.T) {
	for _, call := range []string{"writer-recover db#1", "Open beta#1"} {
		for _, degrade := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, degrade: %v", call, degrade), func(t *testing.T) {
				w := newWorld(t)
				w.policy.Volumes = w.policy.Volumes[:3] // all frozen
				if degrade {
					w.writing[1].OnFailure = config.OnFailureDegrade
				}
				d := w.daemon()
				w.tap = on(call, true, func() error { return errInjected })
				m, err := w.take(t.Context(), d)
				if !degrade {
					if !errors.Is(err, errInjected) || api.Of(err) != api.Failed {
						t.Errorf("got %v", err)
					}
					w.nothing(t, d)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				w.clean(t, d)
				if m.Consistency != api.Filesystem || len(w.snapshots()) != 3 || !strings.Contains(strings.Join(m.Reasons, "; "), "recover") {
					t.Errorf("it claims %s: %v", m.Consistency, m.Reasons)
				}
			})
		}
	}
}

// A set is refused that could not be recovered for want of a provider, before anybody holds.
func TestRecoverRefused(t *testing.T) {
	w := newWorld(t)
	w.policy.Volumes = w.policy.Volumes[:3]
	d := w.daemon()
	d.o.Providers[1] = fleeting{d.o.Providers[1]}
	_, err := w.take(t.Context(), d)
	if api.Of(err) != api.Refused || !strings.Contains(err.Error(), "writer db recovers its data on the snapshots, and those of provider beta cannot be written to") {
		t.Errorf("got %v", err)
	}
	w.nothing(t, d)
	if slices.Contains(w.writers["db"].told, hooks.PhaseFreeze) {
		t.Error("it was asked to hold")
	}
	// One that the set can do without only costs consistency.
	w.writing[1].OnFailure = config.OnFailureDegrade
	d = w.daemon()
	d.o.Providers[1] = fleeting{d.o.Providers[1]}
	m, err := w.take(t.Context(), d)
	if err != nil || m.Consistency != api.Filesystem || !strings.Contains(m.Reasons[0], "the snapshots of provider beta cannot be written to") {
		t.Errorf("got %+v, %v", m, err)
	}
}
