package daemon

import (
	"context"
	"sync/atomic"

	"github.com/fermata-project/fermata/daemon/api"
)

// turn lets one change happen at a time: two sets at once would hold each other's filesystems, and an LVM command of ours
// must not run while a set holds LVM's lock.
type turn struct {
	token   chan struct{}
	waiting *atomic.Int32
}

func newTurn() turn {
	t := turn{token: make(chan struct{}, 1), waiting: new(atomic.Int32)}
	t.token <- struct{}{}
	return t
}

// take waits for its turn, or fails with class Busy if it must not wait. The turn ends when release is called.
func (t turn) take(ctx context.Context, failIfBusy bool) (release func(), err error) {
	release = func() { t.token <- struct{}{} }
	select {
	case <-t.token:
		return release, nil
	default:
	}
	if failIfBusy {
		return nil, api.Errorf(api.Busy, "another set is being taken or changed: try again later, or wait for your turn")
	}
	t.waiting.Add(1)
	defer t.waiting.Add(-1)
	select {
	case <-t.token:
		return release, nil
	case <-ctx.Done():
		return nil, api.Errorf(api.Cancelled, "cancelled while waiting for another set: %w", context.Cause(ctx))
	}
}
