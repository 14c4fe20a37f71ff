package hooks

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The phases beside those of a set, each asked of a program of its own, and only of a writer that declares it
// (Spec.Takes).
const (
	// PhaseRecover: make the captured image one that need not be recovered any more: start the server on it until its
	// recovery is done, and stop it. Asked between thaw and post; what it writes is in the set, which is sealed then.
	PhaseRecover Phase = "recover"
	// PhaseVerify: prove that a finished set's image is good. What it writes is thrown away.
	PhaseVerify Phase = "verify"
	// PhaseReport: the requester has said how the backup that it made of a finished set went.
	PhaseReport Phase = "report"
)

// Asides lists them.
var Asides = []Phase{PhaseRecover, PhaseVerify, PhaseReport}

// Aside is a writer that can be asked those.
type Aside interface {
	// Ask asks for one phase of Asides. Event.Stage is where the program runs: for recover and verify, where it finds
	// the set's filesystems at the paths of the live ones. It returns when nothing of the program is left there.
	Ask(ctx context.Context, phase Phase, ev Event) (Answer, error)
}

// Abandoner is a writer that can be told of the end of a set by another process than the one that has asked it to prepare, which
// died.
type Abandoner interface {
	// Abandoned asks a program of its own to abort; held: the writer may have been asked to freeze, and not to thaw. It may be
	// called more than once. A writer that sees for itself that its daemon died, and lets go, need not have it.
	Abandoned(ctx context.Context, ev Event, held bool) error
}

// Takes reports whether the writer declares one of Asides.
func (s Spec) Takes(phase Phase) bool {
	if len(s.Commands) > 0 {
		return len(s.Commands[phase]) > 0
	}
	switch phase {
	case PhaseRecover:
		return s.Recover
	case PhaseVerify:
		return s.Verify
	case PhaseReport:
		return s.Report
	}
	return false
}

// Ask asks a writer for one phase of Asides, and goes on without it if it ignores its time limit.
func Ask(ctx context.Context, w Writer, phase Phase, ev Event) Result {
	begin := time.Now()
	spec := w.Spec()
	a, err := bounded(ctx, phase, &member{Writer: w, spec: spec}, ev)
	return Result{Writer: spec.Name, Phase: phase, Duration: time.Since(begin), Answer: a, Err: err}
}

// strikeLimit is how long the stage of a program that has gone may take to be taken down: what it wrote is written out.
const strikeLimit = 2 * time.Minute

// struck waits until nothing of a program that was asked aside is left.
func (c *process) struck(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), strikeLimit,
		&limitError{"not gone", strikeLimit})
	defer cancel()
	return c.Struck(ctx)
}

func (s *session) Ask(ctx context.Context, phase Phase, ev Event) (a Answer, err error) {
	one := s.again()
	if err = one.start(ev); err == nil {
		a, err = one.ask(ctx, phase, ev)
		err = errors.Join(err, one.Close())
		if ev.Stage != nil {
			err = errors.Join(err, one.process().struck(ctx))
		}
	}
	return a, phaseError(phase, s.spec.Name, err)
}

func (w *commands) Ask(ctx context.Context, phase Phase, ev Event) (Answer, error) {
	a, err := w.run(ctx, phase, ev)
	return a, phaseError(phase, w.spec.Name, err)
}

// Abandoned starts a session anew. What the old one held it has let go, at the end of its input.
func (s *session) Abandoned(ctx context.Context, ev Event, _ bool) error {
	_, err := s.Ask(ctx, PhaseAbort, ev)
	return err
}

// Abandoned thaws first: nobody else will.
func (w *commands) Abandoned(ctx context.Context, ev Event, held bool) (err error) {
	if held {
		_, err = w.Thaw(ctx, ev)
	}
	return errors.Join(err, w.Abort(ctx, ev))
}

func (n *null) Ask(context.Context, Phase, Event) (Answer, error) { return Answer{}, nil }

// askAside is for a writer that takes none of it, whatever it declares.
func askAside(ctx context.Context, phase Phase, w Writer, ev Event) (Answer, error) {
	a, ok := w.(Aside)
	if !ok {
		return Answer{}, phaseError(phase, w.Spec().Name, fmt.Errorf("a writer of its type cannot be asked to"))
	}
	return a.Ask(ctx, phase, ev)
}
