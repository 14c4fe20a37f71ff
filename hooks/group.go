package hooks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fermata-project/fermata/hooks/child"
)

// limitSlack is how long a writer may overrun its time limit before the group
// goes on without it. Ending a stubborn program takes less.
const limitSlack = 6 * time.Second

// Result is what one writer said to one phase.
type Result struct {
	Writer   string
	Phase    Phase
	Began    time.Time     // zero: it was not asked
	Duration time.Duration // by the monotonic clock
	Answer   Answer
	Err      error
}

// Reason is a writer's failure that makes a set claim less consistency instead
// of ending it.
type Reason struct {
	Writer string
	Phase  Phase
	Err    error
}

func (r Reason) String() string { return r.Err.Error() }

// Group runs the writers of one set. It decides which failures are the set's: an
// error of a required writer whose on_failure is abort is returned, any other
// becomes a Reason. A writer that has failed is asked nothing further except to
// thaw, if its Freeze had been called, and to abort.
//
// One goroutine calls the phases, and Holding between them. Results, States,
// Reasons and Close may be called from any.
type Group struct {
	event   Event
	limit   time.Duration
	members []*member

	mu      sync.Mutex
	results []Result
	reasons []Reason
}

// member is a writer's place in the group. The phases write it, one goroutine a
// member, under the group's lock.
type member struct {
	Writer
	spec   Spec
	state  State
	frozen bool // Freeze was called, so Thaw has to be, until one succeeds
}

// NewGroup returns the group of a set's writers. Limit bounds Freeze over all
// levels together (DESIGN: at most 60 s); 0 means 60 s.
func NewGroup(writers []Writer, ev Event, limit time.Duration) *Group {
	if limit <= 0 {
		limit = time.Minute
	}
	g := &Group{event: ev, limit: limit}
	for _, w := range writers {
		g.members = append(g.members, &member{Writer: w, spec: w.Spec()})
	}
	return g
}

// Prepare asks all writers at once to get ready. On an error no writer has been
// asked to freeze, and Abort is due.
func (g *Group) Prepare(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	return g.all(ctx, cancel, PhasePrepare, g.members, OutcomeOK)
}

// Freeze asks the prepared writers to hold, one level after the other, within a
// level all at once. The first failure of a writer that the set cannot do without
// ends the others' attempts. On an error Thaw and Abort are due.
func (g *Group) Freeze(ctx context.Context) error {
	ctx, cancelLimit := withLimit(ctx, g.limit, "not all writers held")
	defer cancelLimit()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for _, level := range levels {
		ready := g.filter(func(m *member) bool { return m.spec.Level == level && m.state == StatePrepared })
		if err := g.all(ctx, cancel, PhaseFreeze, ready, OutcomeOK); err != nil {
			return err
		}
	}
	return nil
}

// Holding is nil while every writer that the set cannot do without, and that is
// not inactive, holds. It takes no lock and allocates nothing as long as all
// hold, so that it may be called inside the freeze window.
func (g *Group) Holding() error {
	for _, m := range g.members {
		if m.state != StateHolding || !m.spec.fatal() {
			continue
		}
		if err := m.Writer.Holding(); err != nil {
			return phaseError("hold", m.spec.Name, err)
		}
	}
	return nil
}

// Thaw lets go, in exactly the reverse order of Freeze, every writer whose Freeze
// was called, also one that failed; neither a failure nor the end of ctx keeps it
// from the next. errors.Is(err, ErrHoldLost) says that a writer that the set
// cannot do without did not hold to the end.
func (g *Group) Thaw(ctx context.Context, outcome Outcome) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for i := len(levels) - 1; i >= 0; i-- {
		due := g.filter(func(m *member) bool { return m.spec.Level == levels[i] && m.frozen })
		errs = append(errs, g.all(ctx, nil, PhaseThaw, due, outcome))
	}
	return errors.Join(errs...)
}

// Recover gives the captured filesystems on a stage to the writers that have held and declare it, one after the other.
func (g *Group) Recover(ctx context.Context, stage *child.Stage) error {
	due := g.filter(func(m *member) bool { return m.state == StateReleased && m.spec.Takes(PhaseRecover) })
	for _, m := range due {
		ev := g.event
		ev.Stage, ev.Prepared = stage, g.said(m.spec.Name, PhasePrepare)
		if err := g.tell(ctx, PhaseRecover, m, ev); err != nil {
			return err
		}
	}
	return nil
}

// Missed fails the writers that a phase of Asides was due to, and that could not be asked for a cause that is not theirs.
func (g *Group) Missed(phase Phase, cause error) error {
	due := g.filter(func(m *member) bool { return m.state == StateReleased && m.spec.Takes(phase) })
	var errs []error
	for _, m := range due {
		errs = append(errs, g.keep(m, Result{Writer: m.spec.Name, Phase: phase, Err: phaseError(phase, m.spec.Name, cause)}))
	}
	return errors.Join(errs...)
}

// said is the data of a writer's answer to a phase.
func (g *Group) said(writer string, phase Phase) map[string]any {
	for _, r := range g.Results() {
		if r.Writer == writer && r.Phase == phase {
			return r.Answer.Data
		}
	}
	return nil
}

// Abort tells every writer that was asked to prepare that the set does not come
// about. It joins all errors, whatever the writers' on_failure.
func (g *Group) Abort(ctx context.Context, outcome Outcome) error {
	due := g.filter(func(m *member) bool { return m.state != "" && m.state != StateInactive })
	return g.all(context.WithoutCancel(ctx), nil, PhaseAbort, due, outcome)
}

// Post tells the writers the outcome of the finished set; those that failed on
// the way are told abort instead. It joins all errors, whatever the writers'
// on_failure: the set is finished, they change nothing in it.
func (g *Group) Post(ctx context.Context, outcome Outcome) error {
	failed := g.filter(func(m *member) bool { return m.state == StateFailed })
	others := g.filter(func(m *member) bool { return m.state == StatePrepared || m.state == StateReleased })
	return errors.Join(
		g.all(ctx, nil, PhasePost, others, outcome),
		g.all(context.WithoutCancel(ctx), nil, PhaseAbort, failed, outcome),
	)
}

// Close closes all writers at once and joins their errors.
func (g *Group) Close() error {
	errs := make([]error, len(g.members))
	var wg sync.WaitGroup
	for i, m := range g.members {
		wg.Go(func() { errs[i] = m.Close() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Results returns what was said so far, in the order in which it came.
func (g *Group) Results() []Result {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]Result(nil), g.results...)
}

// Reasons returns why the set claims less than application consistency, in the
// order in which it became known; empty if nothing speaks against it.
func (g *Group) Reasons() []Reason {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]Reason(nil), g.reasons...)
}

// States returns where each writer stands, by name.
func (g *Group) States() map[string]State {
	g.mu.Lock()
	defer g.mu.Unlock()
	states := make(map[string]State, len(g.members))
	for _, m := range g.members {
		states[m.spec.Name] = m.state
	}
	return states
}

func (g *Group) filter(keep func(*member) bool) []*member {
	g.mu.Lock()
	defer g.mu.Unlock()
	var kept []*member
	for _, m := range g.members {
		if keep(m) {
			kept = append(kept, m)
		}
	}
	return kept
}

// givenUp is why a writer's call was cut short: another one had failed.
type givenUp struct{ cause error }

func (e *givenUp) Error() string { return "given up, for another one failed: " + e.cause.Error() }
func (e *givenUp) Unwrap() error { return context.Canceled }

// all runs one phase of the given members at once, waits for all of them, and
// joins the errors that are the set's. The first of these cancels the others, if
// cancel is given; that they were cancelled is then not worth an error.
func (g *Group) all(ctx context.Context, cancel context.CancelCauseFunc, phase Phase, members []*member, outcome Outcome) error {
	errs := make([]error, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() {
			errs[i] = g.one(ctx, phase, m, outcome)
			if errs[i] != nil && cancel != nil {
				cancel(&givenUp{errs[i]})
			}
		})
	}
	wg.Wait()
	if _, ours := context.Cause(ctx).(*givenUp); ours {
		errs = slices.DeleteFunc(errs, func(err error) bool { return errors.Is(err, context.Canceled) })
	}
	return errors.Join(errs...)
}

// one runs one phase of one member.
func (g *Group) one(ctx context.Context, phase Phase, m *member, outcome Outcome) error {
	g.mu.Lock()
	m.frozen = m.frozen || phase == PhaseFreeze
	g.mu.Unlock()
	ev := g.event
	if phase != PhasePrepare && phase != PhaseFreeze {
		ev.Outcome = outcome
	}
	return g.tell(ctx, phase, m, ev)
}

// tell tells one member an event and keeps what came of it.
func (g *Group) tell(ctx context.Context, phase Phase, m *member, ev Event) error {
	begin := time.Now()
	a, err := bounded(ctx, phase, m, ev)
	return g.keep(m, Result{Writer: m.spec.Name, Phase: phase, Began: begin, Duration: time.Since(begin), Answer: a, Err: err})
}

// keep keeps what came of a phase, and returns the error if it is the set's.
func (g *Group) keep(m *member, r Result) error {
	phase, a, err := r.Phase, r.Answer, r.Err
	g.mu.Lock()
	defer g.mu.Unlock()
	g.results = append(g.results, r)
	was := m.state
	m.state = next(was, phase, a, err)
	m.frozen = m.frozen && (phase != PhaseThaw || err != nil)
	switch {
	case err == nil:
		return nil
	case phase == PhaseAbort || phase == PhasePost || m.spec.fatal():
		return err
	case was != StateFailed || errors.Is(err, ErrHoldLost):
		g.reasons = append(g.reasons, Reason{Writer: m.spec.Name, Phase: phase, Err: err})
	}
	return nil
}

// next is the state after a phase. A failure stays; thaw makes nobody whole who
// had not held.
func next(was State, phase Phase, a Answer, err error) State {
	switch {
	case was == StateFailed || err != nil && phase != PhasePost && phase != PhaseAbort:
		return StateFailed
	case phase == PhasePrepare && a.Inactive:
		return StateInactive
	case phase == PhasePrepare:
		return StatePrepared
	case phase == PhaseFreeze:
		return StateHolding
	case phase == PhaseThaw && was == StateHolding:
		return StateReleased
	default:
		return was
	}
}

// bounded calls a writer and goes on without it if it ignores its time limit, so
// that one writer's bug cannot keep another's application from being let go.
func bounded(ctx context.Context, phase Phase, m *member, ev Event) (Answer, error) {
	type said struct {
		a   Answer
		err error
	}
	answer := make(chan said, 1)
	go func() {
		a, err := call(ctx, phase, m.Writer, ev)
		answer <- said{a, err}
	}()
	limit := m.spec.Timeouts.Of(phase)
	slack := limitSlack
	if ev.Stage != nil {
		slack += strikeLimit
	}
	t := time.NewTimer(limit + slack)
	defer t.Stop()
	select {
	case s := <-answer:
		return s.a, s.err
	case <-t.C:
		err := fmt.Errorf("internal error: it ignored its time limit: %w", &limitError{"no answer to " + string(phase), limit})
		if phase == PhaseThaw {
			err = fmt.Errorf("%w: %w", ErrHoldLost, err)
		}
		return Answer{}, phaseError(phase, m.spec.Name, err)
	}
}

func call(ctx context.Context, phase Phase, w Writer, ev Event) (Answer, error) {
	switch phase {
	case PhasePrepare:
		return w.Prepare(ctx, ev)
	case PhaseFreeze:
		return w.Freeze(ctx, ev)
	case PhaseThaw:
		return w.Thaw(ctx, ev)
	case PhaseAbort:
		return Answer{}, w.Abort(ctx, ev)
	case PhasePost:
		return w.Post(ctx, ev)
	case PhaseRecover, PhaseVerify, PhaseReport:
		return askAside(ctx, phase, w, ev)
	}
	panic(fmt.Sprintf("internal error: unknown phase %q", phase))
}
