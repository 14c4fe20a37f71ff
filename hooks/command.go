package hooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fermata-project/fermata/hooks/child"
)

// exitInactive is the exit status by which a prepare command says that its
// application does not run.
const exitInactive = 3

// maxText is how much of a command's first line is kept as Answer.Text, in bytes.
const maxText = 1 << 10

// commands is the exec writer in command form: one program a phase. Nothing of
// it lives between freeze and thaw, so Holding can only repeat what freeze said.
type commands struct {
	spec     Spec
	programs map[Phase]*program

	holding atomic.Bool
	closing chan struct{} // closed by Close: ends what runs
	once    sync.Once
}

func newCommands(spec Spec) (Writer, error) {
	w := &commands{spec: spec, programs: map[Phase]*program{}, closing: make(chan struct{})}
	for phase, argv := range spec.Commands {
		p, err := newProgram(spec, argv)
		if err != nil {
			return nil, fmt.Errorf("command of %s: %w", phase, err)
		}
		w.programs[phase] = p
	}
	return w, nil
}

func (w *commands) Spec() Spec { return w.spec }

func (w *commands) Prepare(ctx context.Context, ev Event) (Answer, error) {
	a, err := w.run(ctx, PhasePrepare, ev)
	if status := (*exec.ExitError)(nil); errors.As(err, &status) && status.ExitCode() == exitInactive {
		a.Inactive = true
		return a, nil
	}
	return a, phaseError(PhasePrepare, w.spec.Name, err)
}

func (w *commands) Freeze(ctx context.Context, ev Event) (Answer, error) {
	a, err := w.run(ctx, PhaseFreeze, ev)
	w.holding.Store(err == nil)
	return a, phaseError(PhaseFreeze, w.spec.Name, err)
}

func (w *commands) Thaw(ctx context.Context, ev Event) (Answer, error) {
	held := w.holding.Swap(false)
	a, err := w.run(ctx, PhaseThaw, ev)
	if err != nil && held {
		err = fmt.Errorf("%w: %w", ErrHoldLost, err)
	}
	return a, phaseError(PhaseThaw, w.spec.Name, err)
}

func (w *commands) Abort(ctx context.Context, ev Event) error {
	w.holding.Store(false)
	_, err := w.run(ctx, PhaseAbort, ev)
	return phaseError(PhaseAbort, w.spec.Name, err)
}

func (w *commands) Post(ctx context.Context, ev Event) (Answer, error) {
	a, err := w.run(ctx, PhasePost, ev)
	return a, phaseError(PhasePost, w.spec.Name, err)
}

func (w *commands) Holding() error {
	if w.holding.Load() {
		return nil
	}
	return ErrNotHolding
}

func (w *commands) Close() error {
	w.holding.Store(false)
	w.once.Do(func() { close(w.closing) })
	return nil
}

// run runs the command of a phase; a phase without one is agreed to. The error
// wraps *exec.ExitError if the command said no.
func (w *commands) run(ctx context.Context, phase Phase, ev Event) (a Answer, err error) {
	p := w.programs[phase]
	if p == nil {
		return Answer{}, nil
	}
	select {
	case <-w.closing:
		return Answer{}, os.ErrClosed
	default:
	}
	ctx, cancel := withLimit(ctx, w.spec.Timeouts.Of(phase), p.argv[0]+" did not end")
	defer cancel()
	c, err := p.start(p.withEvent(phase, ev), false, ev.Stage)
	if err != nil {
		return Answer{}, err
	}
	if ev.Stage != nil {
		defer func() { err = errors.Join(err, c.struck(ctx)) }()
	}
	head := make(chan []byte, 1)
	go func() { head <- readHead(c.stdout, MaxLine) }()
	if err := w.await(ctx, c); err != nil {
		return Answer{}, c.describe(errors.Join(err, c.awaitEnd()))
	}
	_ = c.stdout.SetReadDeadline(time.Now().Add(child.DrainGrace))
	a = commandAnswer(<-head)
	_ = c.stdout.Close()
	if status := c.Status(); !status.Success() {
		return a, c.describe(&exitError{&exec.ExitError{ProcessState: status}})
	}
	return a, nil
}

// await waits for a command to exit; when it may not run on, its group is ended.
func (w *commands) await(ctx context.Context, c *process) error {
	select {
	case <-c.Exited:
		return nil
	case <-ctx.Done():
		c.Terminate()
		return context.Cause(ctx)
	case <-w.closing:
		c.Terminate()
		return os.ErrClosed
	}
}

// exitError is a command's exit status without the words, which describe adds.
type exitError struct{ *exec.ExitError }

func (e *exitError) Error() string { return "the command failed" }
func (e *exitError) Unwrap() error { return e.ExitError }

// commandAnswer reads the first line of a command's output: a JSON object goes
// to the manifest, anything else is text.
func commandAnswer(out []byte) Answer {
	line, _, _ := bytes.Cut(out, []byte("\n"))
	if data, err := parseObject(string(line)); err == nil {
		return Answer{Data: data}
	}
	return Answer{Text: string(bytes.ToValidUTF8(line[:min(len(line), maxText)], nil))}
}
