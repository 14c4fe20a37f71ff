package hooks

import (
	"context"
	"sync/atomic"
)

// null is the writer that always agrees: for tests, and for measuring what the
// rest of a set costs.
type null struct {
	spec    Spec
	holding atomic.Bool
}

func (n *null) Spec() Spec { return n.spec }

func (n *null) Prepare(context.Context, Event) (Answer, error) { return Answer{}, nil }

func (n *null) Freeze(context.Context, Event) (Answer, error) {
	n.holding.Store(true)
	return Answer{}, nil
}

func (n *null) Thaw(context.Context, Event) (Answer, error) {
	n.holding.Store(false)
	return Answer{}, nil
}

func (n *null) Abort(context.Context, Event) error          { return n.Close() }
func (n *null) Post(context.Context, Event) (Answer, error) { return Answer{}, nil }

func (n *null) Holding() error {
	if n.holding.Load() {
		return nil
	}
	return ErrNotHolding
}

func (n *null) Close() error {
	n.holding.Store(false)
	return nil
}
