package daemon

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm/provider"
)

// leaving is a provider that leaves a command behind when it is to undo something: until that ends, it does nothing else.
type leaving struct {
	provider.Provider
	mu    sync.Mutex
	ends  chan struct{} // nil: none is left behind
	leave bool
}

func (p *leaving) blocked() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leave && p.ends == nil {
		p.ends, p.leave = make(chan struct{}), false
	}
	if p.ends != nil {
		return fmt.Errorf("cannot lvremove: %w", provider.ErrLeftBehind)
	}
	return nil
}

func (p *leaving) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.ends)
	p.ends = nil
}

func (p *leaving) Settle(ctx context.Context) error {
	p.mu.Lock()
	ends := p.ends
	p.mu.Unlock()
	if ends == nil {
		return nil
	}
	select {
	case <-ends:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *leaving) Snapshots(ctx context.Context) ([]provider.Snapshot, error) {
	if err := p.blocked(); err != nil {
		return nil, err
	}
	return p.Provider.Snapshots(ctx)
}

func (p *leaving) Delete(ctx context.Context, s []provider.Snapshot) error {
	if err := p.blocked(); err != nil {
		return err
	}
	return p.Provider.Delete(ctx, s)
}

func (p *leaving) Prepare(ctx context.Context, set provider.Set, vols []provider.Volume) (provider.Enlistment, error) {
	e, err := p.Provider.Prepare(ctx, set, vols)
	return &leavingSet{e, p}, err
}

type leavingSet struct {
	provider.Enlistment
	p *leaving
}

func (e *leavingSet) Abort(ctx context.Context) error {
	if err := e.p.blocked(); err != nil {
		return err
	}
	return e.Enlistment.Abort(ctx)
}

// What could not be undone because a command did not end is removed when that ends, and nobody has to ask for another set.
func TestLeftoverOfACommand(t *testing.T) {
	w := newWorld(t)
	d := w.daemon()
	p := &leaving{Provider: d.o.Providers[1], leave: true}
	d.o.Providers[1] = p
	w.tap = on("Lock beta#1", false, func() error { return errInjected })
	if _, err := w.take(t.Context(), d); err == nil {
		t.Fatal("a set was taken")
	}
	time.Sleep(20 * time.Millisecond) // it waits
	if s, problems := w.snapshots(), strings.Join(d.Status().Problems, "\n"); len(s) == 0 || !strings.Contains(problems, "was not taken, and not undone either") {
		t.Errorf("left: %+v, problems: %s", s, problems)
	}
	p.end()
	w.tidied(t, d)
}

// So it is with a call that does not return.
func TestLeftoverOfACall(t *testing.T) {
	w := newWorld(t)
	w.policy.Limits.Prepare = 300 * time.Millisecond
	d := w.daemon()
	d.undoLimit = 300 * time.Millisecond
	free := make(chan struct{})
	w.tap = on("Prepare beta#1", true, func() error { <-free; return nil })
	if _, err := w.take(t.Context(), d); api.Of(err) != api.Timeout {
		t.Fatalf("got %v", err)
	}
	if len(w.snapshots()) == 0 {
		t.Error("nothing is left: nothing was tested")
	}
	close(free)
	w.tidied(t, d)
}

// A daemon that stops waits for no command.
func TestLeftoverWhileStopping(t *testing.T) {
	w := newWorld(t)
	d := w.daemon()
	stop := started(t, d)
	p := &leaving{Provider: d.o.Providers[1], leave: true}
	d.o.Providers[1] = p
	w.reset()
	w.tap = on("Lock beta#1", false, func() error { return errInjected })
	if _, err := w.take(t.Context(), d); err == nil {
		t.Fatal("a set was taken")
	}
	stop()
	if len(w.snapshots()) == 0 {
		t.Error("it did not wait for the command")
	}
}

// tidied waits until nothing is left.
func (w *world) tidied(t *testing.T, d *Daemon) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); len(w.snapshots()) > 0 || len(d.Status().Problems) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("left: %+v, problems: %q", w.snapshots(), d.Status().Problems)
		}
	}
	d.Wait()
	w.nothing(t, d)
}
