package daemon

import (
	"context"
	"errors"
	"testing"

	"github.com/fermata-project/fermata/dm/provider"
)

// mute is a provider that can be kept from listing.
type mute struct {
	provider.Provider
	snaps []provider.Snapshot
	err   error
}

func (m *mute) Name() string { return "mute" }
func (m *mute) Snapshots(context.Context) ([]provider.Snapshot, error) {
	if m.err != nil {
		return nil, m.err
	}
	return m.snaps, nil
}

// A plug-in that does not answer hides neither its own sets, as far as they were known, nor anybody else's.
func TestSilentProvider(t *testing.T) {
	w := newWorld(t)
	m := &mute{snaps: []provider.Snapshot{{Provider: "mute", Name: "m", Set: provider.Set{ID: "20261120T000000_0001", Members: 1}, Origin: "o"}}}
	d := w.daemon()
	d.o.Providers = append(d.o.Providers, m)
	if err := d.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	known := len(d.Sets())
	m.err = errors.New("no answer")
	if err := d.refresh(t.Context()); !errors.Is(err, m.err) {
		t.Errorf("refresh: %v", err)
	}
	if n := len(d.Sets()); n != known || n == 0 {
		t.Errorf("%d sets, before %d", n, known)
	}
}
