package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"runtime/debug"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/fsfreeze"
)

// Server is the guard.
type Server struct {
	// Resume prepares the release of a suspended device: the function that it returns makes one attempt and answers
	// EINVAL while the device is not suspended.
	Resume func(dev uint64) (func() error, error)
	// Notes is the directory for reports that nobody was there to hear.
	Notes string
	Log   *slog.Logger

	mu     sync.Mutex
	holds  map[string]int // by set, from before it is armed until its note is written
	normal int            // the collector's setting without any
}

// Serve accepts holds until ctx ends; then it releases what is still held, and returns when everything is released.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	told, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("cannot make what stops the holds: %w", err)
	}
	defer unix.Close(told)
	var holds sync.WaitGroup
	defer holds.Wait()
	stop := context.AfterFunc(ctx, func() {
		_, _ = unix.Write(told, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // of an eventfd it cannot fail
		l.Close()
	})
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
			if err := s.watch(conn, told); err != nil {
				s.Log.Error("a hold could not be guarded", "error", err)
			}
		})
	}
}

// watch guards one hold, from the plan to the report.
func (s *Server) watch(conn *net.UnixConn, told int) (err error) {
	defer func() { err = errors.Join(err, conn.Close()) }()
	h, err := s.accept(conn, told)
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil // a ping
	}
	if err != nil {
		return errors.Join(err, send(conn, answer{Error: err.Error()}))
	}
	if h.plan.Ask {
		return send(conn, answer{Asked: true, Armed: s.guarding(h.plan.Set)})
	}
	s.begin(h.plan.Set)
	defer s.end(h.plan.Set)
	over := make(chan bool)
	ready := make(chan struct{})
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		_ = fsfreeze.Urgent()  // it is only slower without
		close(ready)
		over <- h.keep()
	}()
	<-ready
	// From here on something may be frozen: until it is over nothing happens but in keep.
	sent := send(conn, answer{Armed: true})
	finished := <-over
	report := h.report()
	// Before anybody hears of the end: a descriptor keeps its filesystem from being unmounted.
	if err := h.close(); err != nil {
		report.Errors = append(report.Errors, err.Error())
	}
	if finished {
		err = send(conn, answer{Report: report})
	} else {
		err = WriteNote(s.Notes, h.plan.Set, report)
	}
	// The log comes last: it may have to wait for a filesystem that somebody else has frozen.
	if report.Reason != "" {
		s.Log.Warn("released a hold", "set", h.plan.Set, "reason", report.Reason, "released", report.Released, "errors", report.Errors)
	}
	return errors.Join(sent, err)
}

// begin counts a hold. While there is one the garbage collector, which stops every thread, does not run.
func (s *Server) begin(set string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.holds) == 0 {
		s.holds, s.normal = map[string]int{}, debug.SetGCPercent(-1)
	}
	s.holds[set]++
}

func (s *Server) end(set string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holds[set]--; s.holds[set] == 0 {
		delete(s.holds, set)
	}
	if len(s.holds) == 0 {
		debug.SetGCPercent(s.normal)
	}
}

func (s *Server) guarding(set string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holds[set] > 0
}
