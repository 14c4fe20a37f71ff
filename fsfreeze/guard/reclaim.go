package guard

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/fsfreeze"
)

// reclaimTime is how long the end of a hold waits for what the daemon releases in the guard's place. What takes longer is
// stuck in the kernel, and is released when that comes back.
const reclaimTime = time.Second

// reclaim is how the daemon releases what a guard has not that is dead, or stands still. What a living guard has begun to
// release is left to it: so nothing is released twice. It is started once for a hold.
type reclaim struct {
	armed   *Armed
	resumes []func() error
	once    sync.Once
	over    chan struct{} // closed when everything is released

	mu     sync.Mutex // guards report
	report Report
}

func newReclaim(a *Armed, resume func(dev uint64) func() error) *reclaim {
	r := &reclaim{armed: a, over: make(chan struct{})}
	for _, dev := range a.devices {
		r.resumes = append(r.resumes, resume(dev))
	}
	return r
}

// start begins to release, devices before filesystems. It does not wait.
func (r *reclaim) start() {
	r.once.Do(func() {
		a := r.armed
		var devices, systems sync.WaitGroup
		for i, dev := range a.devices {
			r.one(&devices, a.board.Cell(i), deviceName(dev), r.resumes[i])
		}
		resumed := make(chan struct{})
		go func() {
			devices.Wait()
			close(resumed)
		}()
		go func() {
			select { // as in hold.fire
			case <-resumed:
			case <-time.After(deviceTime):
			}
			for i, h := range a.handles {
				r.one(&systems, a.board.Cell(len(a.devices)+i), h.Point(), func() error { return fsfreeze.Thaw(h.Fd()) })
			}
			systems.Wait()
			<-resumed
			close(r.over)
		}()
	})
}

// one releases one thing on a thread of its own.
func (r *reclaim) one(all *sync.WaitGroup, c *fsfreeze.Cell, name string, release func() error) {
	all.Go(func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		_ = fsfreeze.Urgent()  // it is only slower without
		released, err := fsfreeze.Reclaim(c, release, patience, r.armed.guardGone)
		r.mu.Lock()
		defer r.mu.Unlock()
		if released {
			r.report.Released = append(r.report.Released, name)
		}
		if err != nil {
			r.report.Errors = append(r.report.Errors, fmt.Sprintf("cannot release %s: %v", name, err))
		}
	})
}

// wait waits until everything is released, but not longer than limit, unless that is negative. It says what was released
// until then, and whether that is all.
func (r *reclaim) wait(limit time.Duration) (Report, bool) {
	var late <-chan time.Time
	if limit >= 0 {
		late = time.After(limit)
	}
	over := false
	select {
	case <-r.over:
		over = true
	case <-late:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	out := Report{Released: slices.Clone(r.report.Released), Errors: slices.Clone(r.report.Errors)}
	slices.Sort(out.Released)
	return out, over
}

// guardGone reports whether the guard's end of the connection is closed: the kernel closes it when the last thread of a dead
// process has left its calls.
func (a *Armed) guardGone() bool {
	raw, err := a.conn.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		gone = n == 0 && err == nil || err == unix.ECONNRESET
	})
	return err == nil && gone
}

// deviceName is how reports call a device.
func deviceName(dev uint64) string {
	return fmt.Sprintf("device %d:%d", unix.Major(dev), unix.Minor(dev))
}
