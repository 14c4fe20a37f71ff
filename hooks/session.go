package hooks

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fermata-project/fermata/hooks/child"
)

// session is the exec writer in session form: one child is the hold.
//
// What ends a session ends it for good: broken is never cleared, so that a hold
// which was lost for a moment cannot look whole again.
type session struct {
	spec    Spec
	program *program

	turn    sync.Mutex // one request at a time
	holding atomic.Bool
	broken  atomic.Pointer[breakage]

	mu      sync.Mutex
	child   *process    // nil before prepare
	closed  bool        // no child will be started any more
	waiting chan string // where the next line goes; nil: nobody asked

	over chan struct{} // closed when nothing more will be read
}

// breakage is why a session ended, both as a cause and as Holding gives it.
type breakage struct{ cause, lost error }

func broken(cause error) *breakage {
	return &breakage{cause: cause, lost: fmt.Errorf("%w: %w", ErrHoldLost, cause)}
}

func newSession(spec Spec, argv []string) (Writer, error) {
	p, err := newProgram(spec, argv)
	if err != nil {
		return nil, err
	}
	return (&session{spec: spec, program: p}).again(), nil
}

// again is the same writer, with a child of its own.
func (s *session) again() *session {
	return &session{spec: s.spec, program: s.program, over: make(chan struct{})}
}

func (s *session) Spec() Spec { return s.spec }

func (s *session) Prepare(ctx context.Context, ev Event) (Answer, error) {
	if err := s.start(ev); err != nil {
		return Answer{}, phaseError(PhasePrepare, s.spec.Name, err)
	}
	a, err := s.ask(ctx, PhasePrepare, ev)
	return a, phaseError(PhasePrepare, s.spec.Name, err)
}

func (s *session) Freeze(ctx context.Context, ev Event) (Answer, error) {
	a, err := s.ask(ctx, PhaseFreeze, ev)
	if err == nil {
		s.holding.Store(true)
		if s.broken.Load() != nil {
			err = s.explain()
		}
	}
	return a, phaseError(PhaseFreeze, s.spec.Name, err)
}

func (s *session) Thaw(ctx context.Context, ev Event) (Answer, error) {
	held := s.holding.Swap(false)
	if s.process() == nil {
		return Answer{}, nil // never started, so nothing to let go
	}
	if s.broken.Load() != nil {
		return Answer{}, phaseError(PhaseThaw, s.spec.Name, s.thawBroken(held))
	}
	a, err := s.ask(ctx, PhaseThaw, ev)
	if err != nil {
		// What did not answer well is made to let go: its input ends.
		err = errors.Join(err, s.Close())
		if held && !errors.Is(err, ErrHoldLost) {
			err = fmt.Errorf("%w: %w", ErrHoldLost, err)
		}
	}
	return a, phaseError(PhaseThaw, s.spec.Name, err)
}

// thawBroken makes sure that the child of a broken session is gone; that is how
// it lets go. It is an error if it held, or if it cannot be got rid of.
func (s *session) thawBroken(held bool) error {
	var lost error
	if held {
		lost = fmt.Errorf("%w: %w", ErrHoldLost, s.explain())
	}
	return errors.Join(lost, s.Close())
}

func (s *session) Abort(ctx context.Context, ev Event) error {
	s.holding.Store(false)
	if s.process() == nil || s.broken.Load() != nil {
		return phaseError(PhaseAbort, s.spec.Name, s.Close())
	}
	_, err := s.ask(ctx, PhaseAbort, ev)
	return phaseError(PhaseAbort, s.spec.Name, errors.Join(err, s.Close()))
}

func (s *session) Post(ctx context.Context, ev Event) (Answer, error) {
	a, err := s.ask(ctx, PhasePost, ev)
	return a, phaseError(PhasePost, s.spec.Name, err)
}

func (s *session) Holding() error {
	if !s.holding.Load() {
		return ErrNotHolding
	}
	if b := s.broken.Load(); b != nil {
		return b.lost
	}
	return nil
}

func (s *session) Close() error {
	s.mu.Lock()
	s.closed = true
	c := s.child
	s.mu.Unlock()
	if c == nil {
		return nil
	}
	s.broken.CompareAndSwap(nil, broken(os.ErrClosed)) // what broke it before tells more
	return c.end()
}

// start runs the child and begins to read what it says.
func (s *session) start(ev Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return os.ErrClosed
	}
	if s.child != nil {
		return errors.New("internal error: prepare was called twice")
	}
	c, err := s.program.start(s.program.withEvent("", ev), true, ev.Stage)
	if err != nil {
		return err
	}
	s.child = c
	go s.read(c)
	go func() {
		<-c.Exited
		if !c.Ending() { // otherwise it was broken before
			s.breakWith(errExited)
		}
		_ = c.stdout.SetReadDeadline(time.Now().Add(child.DrainGrace))
	}()
	return nil
}

func (s *session) process() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.child
}

// ask sends one request and returns the answer to it.
func (s *session) ask(ctx context.Context, phase Phase, ev Event) (Answer, error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	limit := s.spec.Timeouts.Of(phase)
	ctx, cancel := withLimit(ctx, limit, "no answer to "+string(phase))
	defer cancel()
	c := s.process()
	if c == nil {
		return Answer{}, errors.New("not prepared")
	}
	line, err := Request{Phase: phase, Timeout: limit, Event: ev}.Line()
	if err != nil {
		return Answer{}, err
	}
	answer := s.expect()
	if s.broken.Load() != nil {
		return Answer{}, s.explain()
	}
	if err := send(ctx, c, line); err != nil {
		if c.Gone(child.DrainGrace) {
			return Answer{}, s.explain()
		}
		return Answer{}, s.fail(fmt.Errorf("it does not read its input: %w", err))
	}
	select {
	case said := <-answer:
		return s.understand(phase, said)
	case <-s.over:
		select {
		case said := <-answer: // its last word before the end
			return s.understand(phase, said)
		default:
			return Answer{}, s.explain()
		}
	case <-ctx.Done():
		return Answer{}, s.fail(context.Cause(ctx))
	}
}

// understand reads an answer. Garbage ends the session; an honest refusal does
// not, so that abort can still be told.
func (s *session) understand(phase Phase, said string) (Answer, error) {
	a, err := parseAnswer(phase, said)
	if errors.Is(err, errGarbage) {
		err = s.fail(err)
	}
	return a, err
}

// send writes a request; a child that does not read must not hang us.
func send(ctx context.Context, c *process, line []byte) error {
	stop := context.AfterFunc(ctx, func() { _ = c.stdin.SetWriteDeadline(time.Now()) })
	defer stop()
	_, err := c.stdin.Write(line)
	return err
}

// expect makes the next line an answer.
func (s *session) expect() <-chan string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = make(chan string, 1)
	return s.waiting
}

// deliver hands a line to whoever asked, and says whether anybody had.
func (s *session) deliver(line string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == nil {
		return false
	}
	s.waiting <- line
	s.waiting = nil
	return true
}

// read is the session's ear, to the end of the child's output. What it hears at
// the wrong time breaks the session, at once.
func (s *session) read(c *process) {
	defer close(s.over)
	r := bufio.NewReaderSize(c.stdout, MaxLine)
	for {
		line, err := r.ReadSlice('\n')
		if err == nil && s.deliver(string(line[:len(line)-1])) {
			continue
		}
		cause := complaint(string(line), err)
		s.breakWith(cause)
		if cause == errClosedOutput && c.Gone(child.DrainGrace) {
			s.breakWith(errExited) // closing its output was only a part of that
		}
		break
	}
	c.Terminate()
	_, _ = io.Copy(io.Discard, r) // so that it never blocks on its way out
}

// complaint says what was wrong with the last thing that was read.
func complaint(line string, err error) error {
	switch {
	case err == nil:
		return fmt.Errorf("it said %s without being asked", quote(line[:len(line)-1]))
	case errors.Is(err, bufio.ErrBufferFull):
		return fmt.Errorf("it said a line longer than %d KiB: %s", MaxLine>>10, quote(line))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errExited // somebody else keeps its output open
	case line != "":
		return fmt.Errorf("its output ended in the middle of a line: %s", quote(line))
	case errors.Is(err, io.EOF):
		return errClosedOutput
	default:
		return fmt.Errorf("cannot read its output: %w", err)
	}
}

// What ended a session if nothing more telling is known, the weakest first.
var (
	errClosedOutput = errors.New("it closed its output")
	errExited       = errors.New("it exited")
)

// telling orders causes: one replaces another only if it tells more.
func telling(cause error) int {
	switch cause {
	case errClosedOutput:
		return 1
	case errExited:
		return 2
	default:
		return 3
	}
}

// breakWith ends the session, or tells more of why it ended.
func (s *session) breakWith(cause error) {
	b := broken(cause)
	for {
		old := s.broken.Load()
		if old != nil && telling(old.cause) >= telling(cause) {
			return
		}
		if s.broken.CompareAndSwap(old, b) {
			return
		}
	}
}

// fail ends the session and its child for a cause, and returns that with the
// child's last words.
func (s *session) fail(cause error) error {
	s.breakWith(cause)
	c := s.process()
	c.Terminate()
	return c.describe(cause)
}

// explain says why the session is broken, with the child's last words.
func (s *session) explain() error {
	t := time.NewTimer(2 * child.DrainGrace)
	defer t.Stop()
	select {
	case <-s.over: // all is known
	case <-t.C:
	}
	return s.process().describe(s.broken.Load().cause)
}
