package daemon

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
)

// turn lets one change happen at a time: two sets at once would hold each other's filesystems, and an LVM command of ours
// must not run while a set holds LVM's lock.
type turn struct {
	token   chan struct{}
	waiting *atomic.Int32
	listing chan struct{} // 1 deep: full while somebody only lists what there is
	held    *atomic.Pointer[holding]
}

// holding is what whoever has the turn does, and until when that must have an end, for all that it waits for has limits.
type holding struct {
	what  string
	until time.Time
}

// turnLimit is longer than any change takes that has no longer limits of its own: several of changeLimit and undoLimit.
const turnLimit = 15 * time.Minute

func newTurn() turn {
	t := turn{token: make(chan struct{}, 1), waiting: new(atomic.Int32), listing: make(chan struct{}, 1), held: new(atomic.Pointer[holding])}
	t.token <- struct{}{}
	return t
}

// take waits for its turn, or fails with class Busy if it must not wait. The turn ends when release is called. It begins after a
// listing that is under way, which is done in a moment, and which nobody is told to try later for.
func (t turn) take(ctx context.Context, failIfBusy bool) (release func(), err error) {
	if err := t.takeToken(ctx, failIfBusy); err != nil {
		return nil, err
	}
	t.allow("a change", turnLimit)
	release = func() {
		t.held.Store(nil)
		t.token <- struct{}{}
	}
	select {
	case t.listing <- struct{}{}:
		<-t.listing
		return release, nil
	case <-ctx.Done():
		release()
		return nil, cancelledWaiting(ctx)
	}
}

// allow says what whoever has the turn does from now on, and how long that takes at most.
func (t turn) allow(what string, most time.Duration) {
	t.held.Store(&holding{what, time.Now().Add(most)})
}

// overdue is an error if the turn should have ended, or gone on to something else.
func (t turn) overdue(now time.Time) error {
	if h := t.held.Load(); h != nil && now.After(h.until) {
		return fmt.Errorf("internal error: %s should have ended %v ago, and nothing can be done meanwhile", h.what, now.Sub(h.until).Round(time.Second))
	}
	return nil
}

// list begins a listing unless somebody has the turn: nothing is changed until release is called. It is for one goroutine.
func (t turn) list() (release func(), free bool) {
	t.listing <- struct{}{}
	release = func() { <-t.listing }
	if len(t.token) == 0 {
		release()
		return nil, false
	}
	return release, true
}

func (t turn) takeToken(ctx context.Context, failIfBusy bool) error {
	select {
	case <-t.token:
		return nil
	default:
	}
	if failIfBusy {
		return api.Errorf(api.Busy, "another set is being taken or changed: try again later, or wait for your turn")
	}
	t.waiting.Add(1)
	defer t.waiting.Add(-1)
	select {
	case <-t.token:
		return nil
	case <-ctx.Done():
		return cancelledWaiting(ctx)
	}
}

func cancelledWaiting(ctx context.Context) error {
	return api.Errorf(api.Cancelled, "cancelled while waiting for another set: %w", context.Cause(ctx))
}
