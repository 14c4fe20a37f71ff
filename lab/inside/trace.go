package inside

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// tracer follows the ioctls of a process, thread by thread, from the moment when it is told to: the points at which
// fermatad writes no journal. It belongs to one thread of ours.
type tracer struct {
	// passed is told the name of a point, such as "freeze:2:before": the instant before the second FIFREEZE since the
	// count was begun. True ends the tracing, with the thread still at the point.
	passed func(point string) bool
	// wrote is told that the process has written something; true ends the tracing.
	wrote func() bool

	count   map[string]int // ioctls begun, by operation
	threads map[int]bool
	busy    map[int]call // threads inside a system call
	at      int          // the thread at which follow has ended
}

// call is a system call that a thread is in.
type call struct {
	number    uint64
	operation string // of an ioctl that changes something; empty: of no interest
	n         int
}

// Options of PTRACE_SEIZE, which golang.org/x/sys/unix has no parameter for.
const traceOptions = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE

// attach stops every thread of a process. Nothing of it runs before follow. The caller's thread has a real-time priority
// on the only processor, so no thread begins while this looks.
func (t *tracer) attach(pid int) error {
	t.count, t.threads, t.busy = map[string]int{}, map[int]bool{}, map[int]call{}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		return err
	}
	if len(tasks) == 0 {
		return fmt.Errorf("cannot trace process %d: it is gone", pid)
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(filepath.Base(task))
		if err != nil {
			return err
		}
		if err := errors.Join(ptrace(unix.PTRACE_SEIZE, tid, traceOptions), ptrace(unix.PTRACE_INTERRUPT, tid, 0)); err != nil {
			return err
		}
		t.threads[tid] = true
	}
	return nil
}

// follow lets the threads run from system call to system call until passed or wrote says that this is the end, or until
// none is left.
func (t *tracer) follow() error {
	for {
		tid, status, err := next()
		switch {
		case err == unix.ECHILD:
			return nil
		case err != nil:
			return err
		case !status.Stopped():
			delete(t.threads, tid)
			delete(t.busy, tid)
			continue
		}
		t.threads[tid] = true
		signal := 0
		switch stop := status.StopSignal(); {
		case stop == unix.SIGTRAP|0x80:
			end, err := t.stopped(tid)
			if end || err != nil && !errors.Is(err, unix.ESRCH) {
				t.at = tid
				return err
			}
		case status>>16 == unix.PTRACE_EVENT_STOP && stop != unix.SIGTRAP: // stopped by a signal, until SIGCONT
			if err := ptrace(unix.PTRACE_LISTEN, tid, 0); err != nil {
				return err
			}
			continue
		case status>>16 == 0:
			signal = int(stop)
		}
		if err := ptrace(unix.PTRACE_SYSCALL, tid, signal); err != nil {
			return err
		}
	}
}

// detach lets the process go on untraced, from where follow has ended.
func (t *tracer) detach() error {
	err := ptrace(unix.PTRACE_DETACH, t.at, 0)
	delete(t.threads, t.at)
	for tid := range t.threads {
		_ = ptrace(unix.PTRACE_INTERRUPT, tid, 0) // refused by one that is dying, which is waited for all the same
	}
	for err == nil {
		tid, status, waiting := next()
		switch {
		case waiting == unix.ECHILD:
			return nil
		case waiting != nil:
			return waiting
		case !status.Stopped():
			continue
		}
		signal := 0
		if status>>16 == 0 && status.StopSignal() != unix.SIGTRAP|0x80 {
			signal = int(status.StopSignal())
		}
		err = ptrace(unix.PTRACE_DETACH, tid, signal)
	}
	return err
}

// next waits for something to happen to a traced thread. ECHILD: there is none.
func next() (tid int, status unix.WaitStatus, err error) {
	for {
		// Only of this thread: the command that the lab has started is another one's child.
		tid, err = unix.Wait4(-1, &status, unix.WALL|unix.WNOTHREAD, nil)
		switch err {
		case nil, unix.ECHILD:
			return tid, status, err
		case unix.EINTR:
			continue
		}
		return 0, 0, fmt.Errorf("cannot trace: %w", err)
	}
}

// ptrace makes a request that has no argument but a number. That the thread has been killed meanwhile is no error.
func ptrace(request, tid, data int) error {
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), 0, uintptr(data), 0, 0); errno != 0 && errno != unix.ESRCH {
		return fmt.Errorf("cannot trace thread %d: %w", tid, errno)
	}
	return nil
}

// stopped looks at a thread that is about to make a system call, or has made one.
func (t *tracer) stopped(tid int) (reached bool, err error) {
	regs, err := registersOf(tid)
	if err != nil {
		return false, err
	}
	c, leaving := t.busy[tid]
	if !leaving {
		c = call{number: regs.call}
		if c.number == unix.SYS_IOCTL {
			if c.operation, err = operation(tid, uint32(regs.second), uintptr(regs.third)); err != nil {
				return false, err
			}
		}
		if c.operation != "" {
			t.count[c.operation]++
			c.n = t.count[c.operation]
		}
		t.busy[tid] = c
		return c.operation != "" && t.passed(fmt.Sprintf("%s:%d:before", c.operation, c.n)), nil
	}
	delete(t.busy, tid)
	switch {
	case c.number == unix.SYS_WRITE:
		return t.wrote(), nil
	case c.operation == "":
		return false, nil
	case interrupted(int64(regs.answer)):
		t.count[c.operation]-- // it comes again
		return false, nil
	}
	return t.passed(fmt.Sprintf("%s:%d:after", c.operation, c.n)), nil
}

// registers are those of a system call.
type registers struct{ call, second, third, answer uint64 }

// registersOf reads them one by one, from struct user_regs_struct (arch/x86/include/asm/user_64.h): User-Mode Linux has
// no PTRACE_GETREGS.
func registersOf(tid int) (r registers, err error) {
	for _, at := range []struct {
		offset uintptr
		to     *uint64
	}{{15 * 8, &r.call}, {13 * 8, &r.second}, {12 * 8, &r.third}, {10 * 8, &r.answer}} {
		var word [8]byte
		if _, err := unix.PtracePeekUser(tid, at.offset, word[:]); err != nil {
			return r, fmt.Errorf("cannot read the registers of thread %d: %w", tid, err)
		}
		*at.to = binary.LittleEndian.Uint64(word[:])
	}
	return r, nil
}

// interrupted tells the answers of a system call that a signal has kept from acting. Those above 511 the kernel keeps to
// itself (include/linux/errno.h), except from a tracer.
func interrupted(answer int64) bool {
	return answer == -int64(unix.EINTR) || answer <= -512 && answer >= -516
}

// What golang.org/x/sys/unix lacks of include/uapi/linux/fs.h and dm-ioctl.h.
const (
	fifreeze = 0xC0045877
	fithaw   = 0xC0045878

	dmFirst, dmLast = unix.DM_VERSION, unix.DM_VERSION + 0xff

	dmFlagsAt     = 28 // offset of flags in struct dm_ioctl
	dmSuspendFlag = 1 << 1
)

// operation names an ioctl that changes something; one that asks only, or that is none of ours, has no name.
func operation(tid int, request uint32, argument uintptr) (string, error) {
	switch request {
	case fifreeze:
		return "freeze", nil
	case fithaw:
		return "thaw", nil
	case unix.DM_TARGET_MSG:
		return "message", nil
	case unix.DM_DEV_STATUS, unix.DM_TABLE_STATUS:
		return "", nil
	case unix.DM_DEV_SUSPEND:
		var flags [8]byte
		if _, err := unix.PtracePeekData(tid, argument+dmFlagsAt, flags[:]); err != nil {
			return "", fmt.Errorf("cannot read the memory of thread %d: %w", tid, err)
		}
		if binary.LittleEndian.Uint32(flags[:])&dmSuspendFlag != 0 {
			return "suspend", nil
		}
		return "resume", nil
	}
	if request >= dmFirst && request <= dmLast {
		return fmt.Sprintf("dm-ioctl-%d", request&0xff), nil
	}
	return "", nil
}
