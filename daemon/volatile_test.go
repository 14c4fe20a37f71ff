package daemon

import (
	"context"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/dm/provider"
)

// fleeting is a provider whose snapshots a reboot takes away.
type fleeting struct{ provider.Provider }

type fleetingSet struct{ provider.Enlistment }

func (p fleeting) Prepare(ctx context.Context, set provider.Set, vols []provider.Volume) (provider.Enlistment, error) {
	e, err := p.Provider.Prepare(ctx, set, vols)
	return fleetingSet{e}, err
}

func (e fleetingSet) Finalize(ctx context.Context, f provider.Final) ([]provider.Snapshot, error) {
	out, err := e.Enlistment.Finalize(ctx, f)
	for i := range out {
		out[i].Volatile = true
	}
	return out, err
}

func (fleeting) Volatile() bool { return true }

// What a reboot takes away is finished first: a power cut in between leaves nothing, whatever the order of choice is.
func TestPowerCutBetweenVolatileAndDurable(t *testing.T) {
	for _, volatile := range []string{"alpha", "beta"} {
		w := newWorld(t)
		w.writing[1].Recover = false // fleeting cannot open its snapshots
		d := w.daemon()
		for i, p := range d.o.Providers {
			if p.Name() == volatile {
				d.o.Providers[i] = fleeting{p}
			}
		}
		cuts := 0
		w.tap = func(call string, after bool) error {
			if strings.HasPrefix(call, "Finalize") && after {
				cuts++
				cut := w.still().live(nil)
				for _, s := range cut.storage[volatile].Snapshots() {
					if s.Set.ID != oldSet {
						if err := cut.storage[volatile].Remove(s.Name); err != nil {
							t.Error(err)
						}
					}
				}
				if err := cut.daemon().Start(t.Context()); err != nil {
					t.Error(err)
				}
				if left := cut.snapshots(); cuts == 1 && len(left) > 0 || cuts == 2 && len(left) != 2 {
					t.Errorf("%s is volatile: the power is cut after %s: %+v", volatile, call, left)
				}
			}
			return nil
		}
		if _, err := w.take(t.Context(), d); err != nil || cuts != 2 {
			t.Fatal(cuts, err)
		}
	}
}

// Whoever takes a set is told at once which of its snapshots a reboot takes away.
func TestVolatileIsTold(t *testing.T) {
	w := newWorld(t)
	w.policy.Volumes = w.policy.Volumes[:3]
	w.writing[1].Recover = false // fleeting cannot open its snapshots
	d := w.daemon()
	for i, p := range d.o.Providers {
		if p.Name() == "alpha" {
			d.o.Providers[i] = fleeting{p}
		}
	}
	m, err := w.take(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for _, v := range m.Volumes {
		if v.Volatile != (v.Provider == "alpha") || v.Name == "" {
			t.Errorf("got %+v", v)
		}
		if v.Volatile {
			told++
		}
	}
	if told == 0 || told == len(m.Volumes) {
		t.Errorf("%d of %d are volatile", told, len(m.Volumes))
	}
}
