package daemon

import (
	"context"
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
