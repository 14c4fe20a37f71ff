package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/fsfreeze"
)

// patience is how long the guard waits for a freeze or suspend that the kernel has not finished, while the daemon that
// asked for it has not died either.
const patience = 10 * time.Minute

// Server is the guard.
type Server struct {
	// Resume prepares the release of a suspended device: the function that it returns makes one attempt and answers
	// EINVAL while the device is not suspended.
	Resume func(dev uint64) (func() error, error)
	// Notes is the directory for reports that nobody was there to hear.
	Notes string
	Log   *slog.Logger

	mu    sync.Mutex
	holds map[string]int // by set, from before it is armed until its note is written
}

// Serve accepts holds until ctx ends; then it releases what is still held, and returns when everything is released.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	var holds sync.WaitGroup
	defer holds.Wait()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot accept a hold: %w", err)
		}
		holds.Go(func() {
			if err := s.watch(ctx, conn); err != nil {
				s.Log.Error("a hold could not be guarded", "error", err)
			}
		})
	}
}

// watch guards one hold, from the plan to the report.
func (s *Server) watch(ctx context.Context, conn *net.UnixConn) (err error) {
	defer func() { err = errors.Join(err, conn.Close()) }()
	h, err := s.accept(conn)
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil // a ping
	}
	if err != nil {
		return errors.Join(err, send(conn, answer{Error: err.Error()}))
	}
	if h.plan.Ask {
		return send(conn, answer{Asked: true, Armed: s.guarding(h.plan.Set)})
	}
	s.count(h.plan.Set, 1)
	defer s.count(h.plan.Set, -1)
	if err := send(conn, answer{Armed: true}); err != nil {
		h.fire(Closed) // it died before it could begin
		h.report()
		return errors.Join(err, h.close())
	}
	stop := context.AfterFunc(ctx, func() { h.fire(Stopped) })
	defer stop()

	finished := h.wait(conn)
	report := h.report()
	// Before anybody hears of the end: a descriptor keeps its filesystem from being unmounted.
	if err := h.close(); err != nil {
		report.Errors = append(report.Errors, err.Error())
	}
	if report.Reason != "" {
		s.Log.Warn("released a hold", "set", h.plan.Set, "reason", report.Reason, "released", report.Released, "errors", report.Errors)
	}
	if !finished {
		return WriteNote(s.Notes, h.plan.Set, report)
	}
	return send(conn, answer{Report: report})
}

func (s *Server) count(set string, by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holds == nil {
		s.holds = map[string]int{}
	}
	if s.holds[set] += by; s.holds[set] == 0 {
		delete(s.holds, set)
	}
}

func (s *Server) guarding(set string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holds[set] > 0
}

// hold is what the guard holds for one set.
type hold struct {
	plan  plan
	board *Board
	fds   []int
	once  sync.Once
	// gone: the daemon's end of the connection is closed. The kernel closes a dead process's files when the last of its
	// threads has left them, and a thread inside FIFREEZE has not: from then on nothing of that daemon is still being taken.
	gone    atomic.Bool
	devices chan struct{} // closed: resume
	systems chan struct{} // closed: thaw
	resumed sync.WaitGroup
	ended   sync.WaitGroup
	mu      sync.Mutex
	out     Report
}

func (s *Server) accept(conn *net.UnixConn) (*hold, error) {
	h := &hold{devices: make(chan struct{}), systems: make(chan struct{})}
	if err := conn.SetReadDeadline(time.Now().Add(replyTime)); err != nil {
		return nil, err
	}
	fds, err := receive(conn, &h.plan, MaxFilesystems+1)
	if err == nil && h.plan.Ask && len(fds) == 0 {
		return h, nil
	}
	if err == nil && len(fds) != 1+len(h.plan.Filesystems) {
		err = fmt.Errorf("%d descriptors came for %d filesystems", len(fds), len(h.plan.Filesystems))
	}
	if err != nil {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return nil, fmt.Errorf("cannot read the plan: %w", err)
	}
	h.fds = fds[1:]
	if h.board, err = openBoard(fds[0], len(h.plan.Devices)+len(h.fds)); err != nil {
		return nil, errors.Join(err, h.closeFDs())
	}
	// One goroutine for each thing held stands ready before the daemon may begin.
	resumes := make([]func() error, len(h.plan.Devices))
	for i, dev := range h.plan.Devices {
		if resumes[i], err = s.Resume(dev); err != nil {
			return nil, errors.Join(err, h.board.Close(), h.closeFDs())
		}
	}
	for i, resume := range resumes {
		name := fmt.Sprintf("device %d:%d", unix.Major(h.plan.Devices[i]), unix.Minor(h.plan.Devices[i]))
		h.resumed.Add(1)
		h.ready(h.devices, h.board.Cell(i), name, resume, h.resumed.Done)
	}
	for i, fd := range h.fds {
		thaw := func() error { return fsfreeze.Thaw(fd) }
		h.ready(h.systems, h.board.Cell(len(resumes)+i), h.plan.Filesystems[i], thaw, func() {})
	}
	return h, nil
}

func (h *hold) ready(start chan struct{}, c *fsfreeze.Cell, name string, release func() error, done func()) {
	h.ended.Go(func() {
		<-start
		if h.board.Ended() == Closed {
			done()
			return
		}
		released, err := fsfreeze.Release(c, release, patience, h.gone.Load)
		done()
		h.note(name, released, err)
	})
}

// note keeps what became of one release for the report. Everything is released by then, or given up.
func (h *hold) note(name string, released bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if released {
		h.out.Released = append(h.out.Released, name)
	}
	if err != nil {
		h.out.Errors = append(h.out.Errors, fmt.Sprintf("cannot release %s: %v", name, err))
	}
}

// wait returns when the hold is over: true if the daemon said so itself and waits for the report.
func (h *hold) wait(conn *net.UnixConn) bool {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		h.fire(Deadline)
	}
	if err := conn.SetReadDeadline(time.Now().Add(time.Duration(h.plan.Deadline - ts.Nano()))); err != nil {
		h.fire(Deadline)
	}
	var d done
	_, err := receive(conn, &d, 0)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		h.fire(Deadline)
		// The daemon may come back and ask what happened, or never.
		if conn.SetReadDeadline(time.Time{}) == nil {
			_, err = receive(conn, &d, 0)
		}
	}
	if err == nil && d.Done {
		h.fire(Closed)
		return true
	}
	h.gone.Store(errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, unix.ECONNRESET))
	h.fire(Died)
	return false
}

// fire ends the hold and releases everything, devices before filesystems, because a thaw may write to its device. It
// does not wait. If the daemon closed the hold in order there is nothing to release.
func (h *hold) fire(r Reason) {
	h.once.Do(func() {
		h.board.End(r)
		close(h.devices)
		h.ended.Go(func() {
			h.resumed.Wait()
			close(h.systems)
		})
	})
}

// report waits until everything is released and says what it took.
func (h *hold) report() Report {
	h.ended.Wait()
	if r := h.board.Ended(); r != Closed {
		h.out.Reason = r.String()
	}
	slices.Sort(h.out.Released)
	return h.out
}

func (h *hold) close() error {
	return errors.Join(h.board.Close(), h.board.Unmap(), h.closeFDs())
}

func (h *hold) closeFDs() error {
	var errs []error
	for _, fd := range h.fds {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}
