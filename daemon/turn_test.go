package daemon

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
)

func TestTurn(t *testing.T) {
	q := newTurn()
	release, err := q.take(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.take(t.Context(), true); api.Of(err) != api.Busy || api.Of(err).ExitStatus() != 75 {
		t.Errorf("busy: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := make(chan error)
	go func() {
		_, err := q.take(ctx, false)
		gone <- err
	}()
	waits := make(chan func())
	go func() {
		release, err := q.take(t.Context(), false)
		if err != nil {
			t.Error(err)
		}
		waits <- release
	}()
	for end := time.Now().Add(5 * time.Second); q.waiting.Load() != 2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d are waiting", q.waiting.Load())
		}
	}
	cancel(errInjected)
	if err := <-gone; api.Of(err) != api.Cancelled {
		t.Errorf("cancelled: %v", err)
	}
	release()
	(<-waits)()
	if q.waiting.Load() != 0 || len(q.token) != 1 {
		t.Errorf("%d are waiting, %d turns are free", q.waiting.Load(), len(q.token))
	}
}

// Who only lists has no turn: whoever takes it waits for the end of the listing, and is not told that it is busy.
func TestListing(t *testing.T) {
	q := newTurn()
	done, free := q.list()
	if !free {
		t.Fatal("nobody has the turn")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := q.take(ctx, true); api.Of(err) != api.Cancelled {
		t.Errorf("cancelled while it is listed: %v", err)
	}
	taken := make(chan func())
	go func() {
		release, err := q.take(t.Context(), true)
		if err != nil {
			t.Error(err)
		}
		taken <- release
	}()
	select {
	case <-taken:
		t.Error("the turn began before the end of the listing")
	case <-time.After(20 * time.Millisecond):
	}
	done()
	release := <-taken
	if _, free := q.list(); free {
		t.Error("listed although somebody has the turn")
	}
	release()
	if done, free = q.list(); !free {
		t.Fatal("nobody has the turn any more")
	}
	done()
}

// Whatever is asked for at once, one change happens at a time.
func TestOneAtATime(t *testing.T) {
	w := newWorld(t)
	var holds, most atomic.Int32
	w.tap = func(c string, after bool) error {
		switch {
		case c[:4] == "Lock" && after:
			most.Store(max(most.Load(), holds.Add(1)))
		case c[:4] == "Unlo" && after:
			holds.Add(-1)
		}
		return nil
	}
	d := w.daemon()
	var all sync.WaitGroup
	var busy, taken atomic.Int32
	for i := range 6 {
		all.Go(func() {
			_, err := d.CreateSet(t.Context(), api.Request{Policy: "p", FailIfBusy: i%2 == 1}, nil)
			switch {
			case err == nil:
				taken.Add(1)
			case api.Of(err) == api.Busy && i%2 == 1:
				busy.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if taken.Load() < 3 || taken.Load()+busy.Load() != 6 || most.Load() > 2 {
		t.Errorf("%d taken, %d refused, %d locks at once", taken.Load(), busy.Load(), most.Load())
	}
	if n := len(d.Sets()); n != int(taken.Load())+1 {
		t.Errorf("%d sets of %d", n, taken.Load())
	}
}

// A turn that does not end is noticed; one that takes as long as it may is not.
func TestOverdue(t *testing.T) {
	w := newWorld(t)
	w.policy.Limits.Prepare = 3 * time.Hour
	d := w.daemon()
	release, err := d.turn.take(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Alive(); err != nil {
		t.Error(err)
	}
	if err := d.turn.overdue(time.Now().Add(turnLimit + time.Second)); err == nil {
		t.Error("a change that does not end goes unnoticed")
	}
	d.turn.allow("phase arm of set x", -time.Second)
	if err := d.Alive(); err == nil || !strings.Contains(err.Error(), "phase arm of set x should have ended 1s ago") {
		t.Errorf("a phase that does not end: %v", err)
	}
	release()
	if err := d.Alive(); err != nil {
		t.Errorf("nobody has the turn: %v", err)
	}

	// Whatever a set does, it may do for as long as its policy says.
	var late atomic.Int32
	var calls atomic.Int32
	w.tap = func(string, bool) error {
		calls.Add(1)
		if d.turn.overdue(time.Now().Add(w.policy.Limits.Prepare)) != nil {
			late.Add(1)
		}
		return nil
	}
	if _, err := w.take(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if late.Load() > 0 || calls.Load() == 0 {
		t.Errorf("at %d of %d calls the daemon would be killed within 3 hours", late.Load(), calls.Load())
	}
}
