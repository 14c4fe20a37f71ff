package hooks

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// Remote is the far side of a writer that is no program of ours: a service on a bus.
//
// A service that cannot be reached any more counts as having let go: its contract says that it does so when it loses
// Fermata.
type Remote interface {
	// Ask asks for one phase, and ends with ctx at the latest. An error that wraps ErrHoldLost says, to thaw, that the hold
	// did not last.
	Ask(ctx context.Context, r Request) (Answer, error)
	// Gone is nil as long as the service can be reached. It is an atomic load, and what it once said it does not take back.
	Gone() error
}

// remote is the writer that a Remote is.
type remote struct {
	spec Spec
	find func(context.Context) (Remote, error)

	turn    sync.Mutex // one request at a time
	peer    atomic.Pointer[Remote]
	holding atomic.Bool
	asked   atomic.Bool // to freeze, and not yet let go
}

// NewRemote makes a writer of a service that find finds when the writer is asked to prepare.
func NewRemote(spec Spec, find func(context.Context) (Remote, error)) (Writer, error) {
	spec = spec.withDefaults()
	if err := spec.validate(); err != nil {
		return nil, fmt.Errorf("cannot use writer %q: %w", spec.Name, err)
	}
	return &remote{spec: spec, find: find}, nil
}

func (w *remote) Spec() Spec { return w.spec }

func (w *remote) Prepare(ctx context.Context, ev Event) (Answer, error) {
	a, err := w.prepare(ctx, ev)
	return a, phaseError(PhasePrepare, w.spec.Name, err)
}

// Ask implements Aside, for a report.
func (w *remote) Ask(ctx context.Context, phase Phase, ev Event) (a Answer, err error) {
	find, cancel := withLimit(ctx, w.spec.Timeouts.Of(phase), "no answer to "+string(phase))
	defer cancel()
	peer, err := w.find(find)
	if err == nil {
		w.peer.Store(&peer)
		a, err = w.ask(ctx, phase, ev)
	}
	return a, phaseError(phase, w.spec.Name, err)
}

func (w *remote) prepare(ctx context.Context, ev Event) (Answer, error) {
	ctx, cancel := withLimit(ctx, w.spec.Timeouts.Prepare, "no answer to prepare")
	defer cancel()
	peer, err := w.find(ctx)
	if err != nil {
		return Answer{}, err
	}
	w.peer.Store(&peer)
	return w.ask(ctx, PhasePrepare, ev)
}

func (w *remote) Freeze(ctx context.Context, ev Event) (Answer, error) {
	w.asked.Store(true)
	a, err := w.ask(ctx, PhaseFreeze, ev)
	if err == nil {
		err = w.gone()
	}
	w.holding.Store(err == nil)
	return a, phaseError(PhaseFreeze, w.spec.Name, err)
}

func (w *remote) Thaw(ctx context.Context, ev Event) (Answer, error) {
	a, err := w.thaw(ctx, ev)
	return a, phaseError(PhaseThaw, w.spec.Name, err)
}

func (w *remote) thaw(ctx context.Context, ev Event) (Answer, error) {
	held := w.holding.Swap(false)
	if w.peer.Load() == nil {
		return Answer{}, nil // never found, so nothing to let go
	}
	var a Answer
	err := w.gone()
	if err == nil {
		if a, err = w.ask(ctx, PhaseThaw, ev); err == nil || errors.Is(err, ErrHoldLost) {
			w.asked.Store(false)
		}
	}
	switch {
	case !held && w.gone() != nil:
		return a, nil // who is gone has let go
	case held && err != nil && !errors.Is(err, ErrHoldLost):
		err = fmt.Errorf("%w: %w", ErrHoldLost, err)
	}
	return a, err
}

func (w *remote) Abort(ctx context.Context, ev Event) error {
	w.holding.Store(false)
	if w.peer.Load() == nil || w.gone() != nil {
		return nil
	}
	_, err := w.ask(ctx, PhaseAbort, ev)
	return phaseError(PhaseAbort, w.spec.Name, err)
}

func (w *remote) Post(ctx context.Context, ev Event) (Answer, error) {
	a, err := w.ask(ctx, PhasePost, ev)
	return a, phaseError(PhasePost, w.spec.Name, err)
}

func (w *remote) Holding() error {
	if !w.holding.Load() {
		return ErrNotHolding
	}
	if err := w.gone(); err != nil {
		return fmt.Errorf("%w: %w", ErrHoldLost, err)
	}
	return nil
}

// Close lets go what was left.
func (w *remote) Close() error {
	w.holding.Store(false)
	if !w.asked.Swap(false) || w.gone() != nil {
		return nil
	}
	_, err := w.ask(context.Background(), PhaseThaw, Event{Outcome: OutcomeFailed})
	if errors.Is(err, ErrHoldLost) {
		return nil // it has let go before
	}
	return phaseError(PhaseThaw, w.spec.Name, err)
}

// gone is why the service cannot be reached; nil before it was looked for.
func (w *remote) gone() error {
	if p := w.peer.Load(); p != nil {
		return (*p).Gone()
	}
	return nil
}

// ask sends one request, and waits no longer than the phase's limit.
func (w *remote) ask(ctx context.Context, phase Phase, ev Event) (Answer, error) {
	w.turn.Lock()
	defer w.turn.Unlock()
	limit := w.spec.Timeouts.Of(phase)
	ctx, cancel := withLimit(ctx, limit, "no answer to "+string(phase))
	defer cancel()
	p := w.peer.Load()
	if p == nil {
		return Answer{}, errors.New("not prepared")
	}
	a, err := (*p).Ask(ctx, Request{Phase: phase, Timeout: limit, Event: ev})
	if err != nil && ctx.Err() != nil {
		return Answer{}, context.Cause(ctx)
	}
	return a, err
}
