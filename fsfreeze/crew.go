package fsfreeze

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// include/uapi/linux/futex.h; golang.org/x/sys has them not.
const (
	futexWait    = 0
	futexWake    = 1
	futexPrivate = 128
)

// Crew is a number of threads that stand ready to act at the same moment: one for each filesystem, because FIFREEZE
// waits for writers, for RCU and for the disk, and cannot be interrupted.
//
// The threads wait on a futex instead of a channel: waking all of them is one system call, and the Go scheduler, which
// would hand processors and start threads in the middle of the freeze window, has no part in it.
type Crew struct {
	round   atomic.Uint32 // a new value is a new act
	pending atomic.Uint32 // threads that have not finished it
	quit    atomic.Bool
	act     func(i int) error
	errs    []error
}

// NewCrew starts n threads and returns when all of them stand ready. It lets the process run at least so many threads of
// Go at the same time, and some more, so that a thread that comes out of the kernel need not wait for another one, and has
// threads standing idle for all of them, so that hardly one is started in the freeze window.
func NewCrew(n int) *Crew {
	if room := n + 4; runtime.GOMAXPROCS(0) < room {
		runtime.GOMAXPROCS(room)
	}
	c := &Crew{errs: make([]error, n)}
	c.pending.Store(uint32(n))
	for i := range n {
		go c.member(i)
	}
	c.Wait(-1)
	spareThreads(2 * runtime.GOMAXPROCS(0))
	return c
}

// spareThreads makes sure that n threads stand idle, which the Go scheduler uses before it starts another one. It wants one for
// each of its processors, and one for each goroutine that is in the kernel.
func spareThreads(n int) {
	var locked, all sync.WaitGroup
	locked.Add(n)
	for range n {
		all.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			locked.Done()
			locked.Wait() // for the others, which cannot have this thread
		})
	}
	all.Wait()
}

// Do lets every thread act at the same time, and returns when all have: one error for each, valid until the next Do. It
// is called by one goroutine at a time, and allocates nothing; so are Start and Wait, its halves.
func (c *Crew) Do(act func(i int) error) []error {
	c.Start(act)
	c.Wait(-1)
	return c.errs
}

// Start lets every thread act at the same time, and returns at once.
func (c *Crew) Start(act func(i int) error) {
	c.act = act
	c.pending.Store(uint32(len(c.errs)))
	c.wake()
}

// Wait waits until every thread has acted, but not longer than limit, unless that is negative. It reports whether all
// have.
func (c *Crew) Wait(limit time.Duration) bool {
	end := time.Now().Add(limit)
	for {
		n := c.pending.Load()
		if n == 0 {
			return true
		}
		if limit < 0 {
			futex(&c.pending, futexWait, n, nil)
			continue
		}
		left := time.Until(end)
		if left <= 0 {
			return false
		}
		ts := unix.NsecToTimespec(int64(left))
		futex(&c.pending, futexWait, n, &ts)
	}
}

// Close ends the threads. One that is stuck in the kernel ends when it comes back.
func (c *Crew) Close() {
	c.quit.Store(true)
	c.wake()
}

func (c *Crew) member(i int) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
	Urgent()               // it is only slower without
	for {
		seen := c.round.Load()
		if c.pending.Add(^uint32(0)) == 0 {
			futex(&c.pending, futexWake, 1, nil)
		}
		for c.round.Load() == seen {
			futex(&c.round, futexWait, seen, nil)
		}
		if c.quit.Load() {
			return
		}
		c.errs[i] = c.act(i)
	}
}

func (c *Crew) wake() {
	c.round.Add(1)
	futex(&c.round, futexWake, uint32(len(c.errs)), nil)
}

// futex waits while *word is value, not longer than limit unless that is nil, or wakes up to value waiters (futex(2)).
// Every answer is fine: the callers look at the word again.
func futex(word *atomic.Uint32, op int, value uint32, limit *unix.Timespec) {
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), uintptr(op|futexPrivate), uintptr(value), uintptr(unsafe.Pointer(limit)), 0, 0)
}
