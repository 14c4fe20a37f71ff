package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm/provider/plugin/protocol"
	"github.com/fermata-project/fermata/hooks/child"
)

// session is one process of a plug-in and the conversation with it.
//
// What breaks it breaks it for good: an answer that comes after its time limit finds nobody who would listen, so that it
// can never be taken for the answer to a later request. The ids say the same once more.
type session struct {
	spec  Spec
	log   *slog.Logger
	child *process

	// busy lets one caller in at a time. Nobody waits for it: inside the freeze window a second caller goes without.
	busy   atomic.Bool
	ended  atomic.Bool
	closed atomic.Bool

	// Of whoever is busy.
	id     uint64
	buf    []byte // what has been read of the answer
	broken error
}

var (
	errExited = errors.New("it closed its pipes")
	errBusy   = errors.New("internal error: it is being asked something else")
)

// timeoutError is a limit that passed.
type timeoutError struct{ limit time.Duration }

func (e *timeoutError) Error() string {
	return fmt.Sprintf("no answer within %v", e.limit.Round(time.Millisecond))
}
func (e *timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// failure is what went wrong with a plug-in, at which phase. Its text is made when it is read: how the process ended may
// be known only then, and inside the freeze window nothing is formatted.
type failure struct {
	plugin string
	method protocol.Method
	cause  error
	child  *process // nil if that tells nothing
}

func (f *failure) Error() string {
	text := fmt.Sprintf("plug-in %s failed at %s: %v", f.plugin, f.method, f.cause)
	if f.child != nil {
		text += f.child.describe() + f.remedy()
	}
	return text
}

// remedy is what whoever wanted a set can do about a process that broke its word.
func (f *failure) remedy() string {
	var late *timeoutError
	if errors.As(f.cause, &late) {
		return " (give it more time: timeouts, in its file in providers.d)"
	}
	switch f.method {
	case protocol.Admit, protocol.Prepare, protocol.Lock, protocol.PreCommit, protocol.Commit, protocol.PostCommit, protocol.Unlock,
		protocol.Verify, protocol.Finalize:
		return " (see journalctl -u fermatad; another provider can be named: --provider VOLUME=NAME)"
	}
	return ""
}

func (f *failure) Unwrap() error { return f.cause }

// open starts a process.
func open(spec Spec, log *slog.Logger) (*session, error) {
	c, err := start(spec)
	if err != nil {
		return nil, err
	}
	return &session{spec: spec, log: log, child: c, buf: make([]byte, 0, protocol.MaxWindowLine)}, nil
}

// call asks and waits for the answer, outside of the freeze window. A session that it breaks is killed at once.
func (s *session) call(ctx context.Context, m protocol.Method, limit time.Duration, p protocol.Params) (protocol.Result, error) {
	defer s.report()
	q, err := s.request(m, limit, p)
	if err != nil {
		return protocol.Result{}, err
	}
	until := time.Now().Add(limit)
	if d, ok := ctx.Deadline(); ok && d.Before(until) {
		until = d
	}
	r, err := s.ask(q, until, ctx)
	if s.isBroken() {
		s.stop()
	}
	return r, err
}

// request is a line, ready to be written.
type request struct {
	method protocol.Method
	id     uint64
	limit  time.Duration
	line   []byte
}

// request makes one; it is the next to be asked.
func (s *session) request(m protocol.Method, limit time.Duration, p protocol.Params) (request, error) {
	s.id++
	line, err := protocol.Line(protocol.Request{
		Fermata: protocol.Version, ID: s.id, Method: m, TimeoutMS: max(1, limit.Milliseconds()), Params: p,
	})
	if err != nil {
		return request{}, s.failed(m, err)
	}
	return request{m, s.id, limit, line}, nil
}

func (s *session) failed(m protocol.Method, cause error) error {
	return &failure{plugin: s.spec.Name, method: m, cause: cause}
}

// ask writes a request and reads its answer: nothing but write(2), poll(2) and read(2), for it is used in the freeze
// window too. ctx may be nil there.
func (s *session) ask(q request, until time.Time, ctx context.Context) (protocol.Result, error) {
	if !s.busy.CompareAndSwap(false, true) {
		return protocol.Result{}, s.failed(q.method, errBusy)
	}
	defer s.free()
	if s.broken == nil && s.ended.Load() {
		s.broken = errExited
	}
	if s.broken != nil {
		return protocol.Result{}, &failure{s.spec.Name, q.method, s.broken, s.child}
	}
	answer, err := s.exchange(q, until, ctx)
	if err != nil {
		s.broken = err
		return protocol.Result{}, &failure{s.spec.Name, q.method, err, s.child}
	}
	if answer.Error != nil {
		return protocol.Result{}, s.failed(q.method, refusal(answer.Error))
	}
	return *answer.Result, nil
}

func (s *session) exchange(q request, until time.Time, ctx context.Context) (protocol.Answer, error) {
	if err := s.quiet(); err != nil {
		return protocol.Answer{}, err
	}
	w := wait{until: until, limit: min(q.limit, time.Until(until)), ctx: ctx}
	for rest := q.line; len(rest) > 0; {
		n, err := unix.Write(s.child.in, rest)
		switch {
		case err == nil:
			rest = rest[n:]
		case errors.Is(err, unix.EPIPE):
			return protocol.Answer{}, errExited
		case errors.Is(err, unix.EAGAIN):
			if err := w.ready(s.child.in, unix.POLLOUT); err != nil {
				return protocol.Answer{}, fmt.Errorf("it does not read its input: %w", err)
			}
		case !errors.Is(err, unix.EINTR):
			return protocol.Answer{}, fmt.Errorf("cannot write to it: %w", err)
		}
	}
	line, err := s.line(&w, q.method)
	if err != nil {
		return protocol.Answer{}, err
	}
	a, err := protocol.ParseAnswer(line)
	switch {
	case err != nil:
		return protocol.Answer{}, fmt.Errorf("it said %s: %w", quote(line), err)
	case a.ID != q.id:
		return protocol.Answer{}, fmt.Errorf("it answered request %d when %d was asked: too late to be believed", a.ID, q.id)
	}
	return a, nil
}

// quiet is nil if the plug-in has said nothing that nobody asked for.
func (s *session) quiet() error {
	s.buf = s.buf[:0]
	n, err := unix.Read(s.child.out, s.buf[:cap(s.buf)])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("cannot read from it: %w", err)
	case n == 0:
		return errExited
	}
	return fmt.Errorf("it said %s without being asked", quote(s.buf[:n]))
}

// line reads one line, and makes sure that nothing comes with it.
func (s *session) line(w *wait, m protocol.Method) ([]byte, error) {
	most := protocol.MaxLine
	if inWindow(m) {
		most = protocol.MaxWindowLine
	}
	for {
		if len(s.buf) == cap(s.buf) {
			if len(s.buf) >= most {
				return nil, fmt.Errorf("it said a line longer than %d bytes: %s", most, quote(s.buf))
			}
			s.buf = slices.Grow(s.buf, min(cap(s.buf), most-len(s.buf)))
		}
		n, err := unix.Read(s.child.out, s.buf[len(s.buf):cap(s.buf)])
		switch {
		case errors.Is(err, unix.EAGAIN):
			if err := w.ready(s.child.out, unix.POLLIN); err != nil {
				return nil, err
			}
			continue
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, fmt.Errorf("cannot read from it: %w", err)
		case n == 0 && len(s.buf) > 0:
			return nil, fmt.Errorf("its output ended in the middle of a line: %s", quote(s.buf))
		case n == 0:
			return nil, errExited
		}
		begin := len(s.buf)
		s.buf = s.buf[:begin+n]
		if i := bytes.IndexByte(s.buf[begin:], '\n'); i >= 0 {
			if end := begin + i + 1; end != len(s.buf) {
				return nil, fmt.Errorf("it said %s without being asked", quote(s.buf[end:]))
			}
			return s.buf, nil
		}
	}
}

func inWindow(m protocol.Method) bool {
	return m == protocol.PreCommit || m == protocol.Commit || m == protocol.PostCommit
}

// wait is how long something is waited for.
type wait struct {
	until time.Time
	limit time.Duration // for the message
	ctx   context.Context
	fds   [1]unix.PollFd
}

// slice is how often a wait looks whether it has been cancelled.
const slice = 100 * time.Millisecond

// ready waits until a descriptor can be used.
func (w *wait) ready(fd int, events int16) error {
	for {
		left := time.Until(w.until)
		if left <= 0 {
			return &timeoutError{w.limit}
		}
		if w.ctx != nil {
			if err := context.Cause(w.ctx); err != nil {
				return err
			}
			left = min(left, slice)
		}
		w.fds[0] = unix.PollFd{Fd: int32(fd), Events: events}
		n, err := unix.Poll(w.fds[:], int((left+time.Millisecond-1)/time.Millisecond))
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// stop kills the process of a broken session; one that is dying by itself gets the time for it, so that the error tells how
// it ended.
func (s *session) stop() {
	if errors.Is(s.broken, errExited) && s.child.Gone(child.ReapGrace) {
		return
	}
	s.child.Kill()
}

// isBroken may be asked by whoever was busy last.
func (s *session) isBroken() bool { return s.broken != nil }

// free ends a caller's turn, and closes the pipes if somebody has ended the session meanwhile.
func (s *session) free() {
	s.busy.Store(false)
	s.closePipes()
}

// end lets the process go: its input ends, and whatever it held with it. One that has broken its word gets no time to go
// by itself.
func (s *session) end() error {
	s.ended.Store(true)
	if s.broken != nil {
		s.child.Kill()
	}
	s.closePipes()
	err := s.child.bury()
	s.report()
	if err != nil {
		return fmt.Errorf("cannot end plug-in %s: %w", s.spec.Name, err)
	}
	return nil
}

func (s *session) closePipes() {
	if s.ended.Load() && s.busy.CompareAndSwap(false, true) { // never free again
		if s.closed.CompareAndSwap(false, true) {
			s.child.close()
		}
	}
}

// report logs what the process has said on its standard error.
func (s *session) report() {
	lines, cut := s.child.Words.Take()
	if cut {
		s.log.Info("plug-in said more, which is left out", "plugin", s.spec.Name)
	}
	for _, line := range lines {
		s.log.Info("plug-in said", "plugin", s.spec.Name, "text", protocol.Printable(line, maxSaid))
	}
}

func quote(b []byte) string {
	return fmt.Sprintf("%q", protocol.Printable(string(b[:min(len(b), 100)]), 100))
}
