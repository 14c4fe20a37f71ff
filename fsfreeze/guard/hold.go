package guard

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/fsfreeze"
)

const (
	// patience is how long the guard waits for a freeze or suspend that the kernel has not finished, while the daemon that
	// asked for it has not died either.
	patience = 10 * time.Minute
	// deviceTime is how long the filesystems wait for the devices. A thaw may write to its device; but one device that the
	// kernel cannot suspend or resume must not keep the filesystems of all others frozen.
	deviceTime = 200 * time.Millisecond
)

// hold is what the guard holds for one set. Everything that its end needs exists before the daemon may begin: from keep
// to the report nothing is allocated, and nobody is waited for but the kernel.
type hold struct {
	plan     plan
	board    *Board
	fds      []int
	resumes  []func() error
	devices  *fsfreeze.Crew // one thread for each device, one for each filesystem
	systems  *fsfreeze.Crew
	resume   func(i int) error
	thaw     func(i int) error
	outcomes []outcome // devices, then filesystems
	fired    bool
	// gone: the daemon's end of the connection is closed. The kernel closes a dead process's files when the last of its
	// threads has left them, and a thread inside FIFREEZE has not: from then on nothing of that daemon is still being taken.
	gone   atomic.Bool
	isGone func() bool

	polled [2]unix.PollFd // the connection; what tells the guard to stop
	inbox  [len(doneMessage) + 1]byte
}

// outcome is what became of one release.
type outcome struct {
	released bool
	err      error
}

// accept takes a plan and prepares its end.
func (s *Server) accept(conn *net.UnixConn, told int) (*hold, error) {
	h := &hold{}
	h.isGone, h.resume, h.thaw = h.gone.Load, h.releaseDevice, h.releaseSystem
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
	h.resumes = make([]func() error, len(h.plan.Devices))
	for i, dev := range h.plan.Devices {
		if h.resumes[i], err = s.Resume(dev); err != nil {
			return nil, errors.Join(err, h.closeAll())
		}
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { h.polled = watched(int(fd), told) })
	}
	if err != nil {
		return nil, errors.Join(err, h.closeAll())
	}
	h.outcomes = make([]outcome, len(h.resumes)+len(h.fds))
	h.devices, h.systems = fsfreeze.NewCrew(len(h.resumes)), fsfreeze.NewCrew(len(h.fds))
	return h, nil
}

func watched(conn, told int) [2]unix.PollFd {
	return [2]unix.PollFd{{Fd: int32(conn), Events: unix.POLLIN}, {Fd: int32(told), Events: unix.POLLIN}}
}

// keep watches over the hold until it is over and everything is released: true if the daemon said so itself and waits
// for the report. Its thread is locked; it makes system calls only, and allocates nothing.
func (h *hold) keep() (finished bool) {
	defer func() {
		h.devices.Wait(-1)
		h.systems.Wait(-1)
	}()
	late := true // is still to come
	for {
		limit := -1
		if late {
			limit = h.millisecondsLeft()
		}
		switch h.next(limit) {
		case deadlinePassed:
			late = false
			h.fire(Deadline) // the daemon may come back and ask what happened, or never
		case toldToStop:
			h.polled[1].Fd = -1
			h.fire(Stopped)
		case daemonDone:
			h.fire(Closed)
			return true
		case daemonGone:
			h.gone.Store(true)
			h.fire(Died)
			return false
		case nonsense:
			h.fire(Died)
			return false
		}
	}
}

type event int

const (
	deadlinePassed event = iota
	toldToStop
	daemonDone
	daemonGone
	nonsense
)

// next waits for what happens next, limit milliseconds for the deadline, or without one if that is negative.
func (h *hold) next(limit int) event {
	for {
		n, err := unix.Poll(h.polled[:], limit)
		switch {
		case err == unix.EINTR && limit >= 0:
			limit = h.millisecondsLeft()
			continue
		case err == unix.EINTR:
			continue
		case err != nil || n == 0:
			return deadlinePassed
		case h.polled[1].Revents != 0:
			return toldToStop
		}
		n, err = unix.Read(int(h.polled[0].Fd), h.inbox[:])
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
			continue
		case err != nil || n == 0:
			return daemonGone
		case string(h.inbox[:n]) == doneMessage:
			return daemonDone
		}
		return nonsense
	}
}

// millisecondsLeft is the time to the deadline, rounded up.
func (h *hold) millisecondsLeft() int {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	left := time.Duration(h.plan.Deadline-ts.Nano()) + time.Millisecond - 1
	return int(min(max(left, 0), time.Hour) / time.Millisecond)
}

// fire ends the hold and releases everything, devices before filesystems. It does not wait for the filesystems. If the
// daemon closed the hold in order there is nothing to release.
func (h *hold) fire(r Reason) {
	if h.fired {
		return
	}
	h.fired = true
	h.board.End(r)
	if h.board.Ended() == Closed {
		return
	}
	h.devices.Start(h.resume)
	h.devices.Wait(deviceTime)
	h.systems.Start(h.thaw)
}

func (h *hold) releaseDevice(i int) error {
	o := &h.outcomes[i]
	o.released, o.err = fsfreeze.Release(h.board.Cell(i), h.resumes[i], patience, h.isGone)
	return nil
}

func (h *hold) releaseSystem(i int) error {
	n := len(h.resumes) + i
	fd := h.fds[i]
	o := &h.outcomes[n]
	o.released, o.err = fsfreeze.Release(h.board.Cell(n), func() error { return fsfreeze.Thaw(fd) }, patience, h.isGone)
	return nil
}

// report says what was released, and why. Nothing is held any more.
func (h *hold) report() (r Report) {
	if why := h.board.Ended(); why != Closed {
		r.Reason = why.String()
	}
	for i, o := range h.outcomes {
		name := ""
		if i < len(h.resumes) {
			name = deviceName(h.plan.Devices[i])
		} else {
			name = h.plan.Filesystems[i-len(h.resumes)]
		}
		if o.released {
			r.Released = append(r.Released, name)
		}
		if o.err != nil {
			r.Errors = append(r.Errors, fmt.Sprintf("cannot release %s: %v", name, o.err))
		}
	}
	slices.Sort(r.Released)
	return r
}

func (h *hold) close() error {
	h.devices.Close()
	h.systems.Close()
	return errors.Join(h.board.Unmap(), h.closeAll())
}

// closeAll closes the descriptors.
func (h *hold) closeAll() error { return errors.Join(h.board.Close(), h.closeFDs()) }

func (h *hold) closeFDs() error {
	var errs []error
	for _, fd := range h.fds {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}
