package hooks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fermata-project/fermata/hooks/child"
)

// Phase is one step of a set that writers are told of.
type Phase string

// The phases, in the order in which a writer sees them; a set ends for a writer
// either with post or with abort.
const (
	PhasePrepare Phase = "prepare" // get ready: finish, flush, rotate; may take long
	PhaseFreeze  Phase = "freeze"  // hold still from the answer on
	PhaseThaw    Phase = "thaw"    // let go, and say whether the hold held
	PhaseAbort   Phase = "abort"   // the set does not come about: undo prepare
	PhasePost    Phase = "post"    // the set is finished; its outcome
)

// Phases lists the phases of a set in their order.
var Phases = []Phase{PhasePrepare, PhaseFreeze, PhaseThaw, PhaseAbort, PhasePost}

// Outcome is how a set, or a part of it, went.
type Outcome string

// The outcomes that a writer is told with thaw, abort and post.
const (
	OutcomeOK      Outcome = "ok"
	OutcomeFailed  Outcome = "failed"
	OutcomeTimeout Outcome = "timeout"
)

// Event is what a writer is told with each phase.
type Event struct {
	Set     string   // id of the snapshot set
	Policy  string   // name of the policy, empty if none was used
	DryRun  bool     // all phases run, but no snapshot is taken
	Outcome Outcome  // for thaw, abort, post and report
	Volumes []string // mount points of the set, absolute

	// Prepared is what the writer said to prepare of this set, for the phases of Asides.
	Prepared map[string]any
	// Stage is where its program runs; nil: on the host.
	Stage *child.Stage
}

// Answer is what a writer says to a phase.
type Answer struct {
	// Text is for people: the reason of being inactive, or a command's first line of output.
	Text string
	// Data goes into the set's manifest. It came from at most MaxLine bytes of
	// JSON; numbers are json.Number.
	Data map[string]any
	// Inactive says, to prepare, that the application does not run: its files
	// are at rest and count as consistent without a freeze.
	Inactive bool
}

// State is where a writer stands in a set. The empty state is that of a writer
// that has not been asked yet.
type State string

const (
	StateInactive State = "inactive" // its application does not run: nothing to freeze
	StatePrepared State = "prepared" // ready; not holding yet, or let go without having held
	StateHolding  State = "holding"  // holds still
	StateReleased State = "released" // let go after a hold that held to the end
	StateFailed   State = "failed"   // refused, timed out, died, or lost its hold
)

var (
	// ErrHoldLost says that a writer did not hold to the end, or that nobody
	// can vouch for it. What was captured meanwhile is not application
	// consistent.
	ErrHoldLost = errors.New("hold lost")
	// ErrNotHolding is what Holding answers before freeze and after thaw.
	ErrNotHolding = errors.New("not holding")
)

// Writer takes part in one snapshot set; a further set needs a new one.
//
// Calls come one at a time in the order Prepare, Freeze, Thaw and then Post or
// Abort. Thaw and Abort may come whatever happened before, and have to leave the
// application free. Every call ends by the time limit of its phase in Spec, or
// when ctx is done, whichever is first; only ending a program that ignores end of
// file and SIGTERM may add up to five seconds. So the ctx of Thaw and Abort should
// not be one that a client can cancel. A time limit that was reached satisfies
// errors.Is(err, context.DeadlineExceeded).
type Writer interface {
	// Spec returns the writer's declaration, defaults filled in.
	Spec() Spec
	// Prepare asks the writer to get ready, which may take long. Answer.Inactive
	// says that there is nothing to freeze.
	Prepare(ctx context.Context, ev Event) (Answer, error)
	// Freeze returns without error once the application holds.
	Freeze(ctx context.Context, ev Event) (Answer, error)
	// Thaw lets go. errors.Is(err, ErrHoldLost) says that the hold did not last
	// from the end of Freeze to this call, or that this cannot be known.
	Thaw(ctx context.Context, ev Event) (Answer, error)
	// Abort tells the writer that the set does not come about.
	Abort(ctx context.Context, ev Event) error
	// Post tells the writer the outcome of the finished set.
	Post(ctx context.Context, ev Event) (Answer, error)
	// Holding is nil while the hold is known to hold. It is an atomic load: it
	// may be called inside the freeze window, from any goroutine.
	Holding() error
	// Close frees what the writer uses; a hold that is left is let go. It may be
	// called at any time, from any goroutine, more than once.
	Close() error
}

// limitError says that a time limit was reached; it is a
// context.DeadlineExceeded that names the limit.
type limitError struct {
	what  string
	limit time.Duration
}

func (e *limitError) Error() string { return fmt.Sprintf("%s within %s", e.what, e.limit) }
func (e *limitError) Unwrap() error { return context.DeadlineExceeded }

// withLimit bounds ctx by limit; context.Cause then names it.
func withLimit(ctx context.Context, limit time.Duration, what string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, &limitError{what, limit})
}

// phaseError names the phase and the writer.
func phaseError(phase Phase, name string, err error) error {
	if err == nil {
		return nil
	}
	switch phase {
	case PhasePost:
		return fmt.Errorf("cannot tell writer %s the outcome: %w", name, err)
	case PhaseReport:
		return fmt.Errorf("cannot tell writer %s how the backup went: %w", name, err)
	case PhaseRecover:
		return fmt.Errorf("cannot recover the image of writer %s: %w", name, err)
	case PhaseVerify:
		return fmt.Errorf("cannot verify the image of writer %s: %w", name, err)
	}
	return fmt.Errorf("cannot %s writer %s: %w", phase, name, err)
}
