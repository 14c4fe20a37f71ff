//go:build lab

package system

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// load writes to filesystems all the time, and beside it looks at each from outside: how long can it not be written to, or
// not read from the disk? What looks knows nothing of Fermata.
type load struct {
	watches  []*watch
	control  control
	all      sync.WaitGroup
	stopping atomic.Bool
	mu       sync.Mutex
	err      error
}

// watch is the look at one filesystem: a write of no bytes, which waits for nothing but a thaw, and a read of the disk,
// which waits for its device to be resumed. Its thread has a real-time priority, or it would see how busy the guest's one
// processor is. Times are nanoseconds of the monotonic clock.
type watch struct {
	point  string
	mu     sync.Mutex
	last   int64 // when it could be used last
	stalls []stall
}

type stall struct{ from, to int64 }

// control looks at what the host does to the guest, on a tmpfs, where nothing is ever frozen: how long it gave it nothing,
// and how much slower it was than it can be.
type control struct {
	watch
	fastest int64 // nanoseconds for a little work
	work    []work
}

type work struct{ at, took int64 }

const (
	noStall   = 60 * time.Millisecond // shorter ones are not kept
	maxStalls = 10000
	lookEvery = 20 * time.Millisecond

	lookPriority = 10 // below the lab's own
	loadFile     = "load"
	blockSize    = 4096
)

// startWriters is a load that only writes, and rests so many times as long after each write. Looking costs the guest's one
// processor as much as writing does.
func startWriters(t testing.TB, points []string, rest time.Duration) *load {
	t.Helper()
	runtime.GOMAXPROCS(2*len(points) + 8) // a thread that returns from the kernel need not wait for another of ours
	l := &load{}
	for _, point := range points {
		path := filepath.Join(point, loadFile)
		if err := os.WriteFile(path, make([]byte, 64*blockSize), 0o600); err != nil {
			t.Fatal(err)
		}
		l.start(path, func(fd int) error { return write64(fd, rest) })
	}
	t.Cleanup(func() {
		l.stop(t)
		for _, point := range points {
			os.Remove(filepath.Join(point, loadFile))
		}
	})
	return l
}

func startLoad(t testing.TB, points []string) *load {
	t.Helper()
	l := startWriters(t, points, 9)
	for _, point := range points {
		path := filepath.Join(point, loadFile)
		w := &watch{point: point, last: monotonic()}
		l.watches = append(l.watches, w)
		l.start(path, func(fd int) error {
			direct, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			memory, err := unix.Mmap(-1, 0, blockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
			if err != nil {
				return errors.Join(err, unix.Close(direct))
			}
			read := func() error { _, err := unix.Pread(direct, memory, 0); return err }
			return errors.Join(w.look(fd, read, nil, &l.stopping), unix.Munmap(memory), unix.Close(direct))
		})
	}
	path := "/run/" + loadFile
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l.control = control{watch: watch{point: "/run", last: monotonic()}, fastest: int64(time.Hour)}
	l.start(path, func(fd int) error { return l.control.look(fd, nil, l.control.labour, &l.stopping) })
	t.Cleanup(func() {
		l.stop(t)
		os.Remove(path)
	})
	return l
}

// start has a thread do something with a file until the load is stopped.
func (l *load) start(path string, do func(fd int) error) {
	l.all.Go(func() {
		runtime.LockOSThread() // and never unlocked: its priority ends with it
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err == nil {
			for err == nil && !l.stopping.Load() {
				err = do(fd)
			}
			err = errors.Join(err, unix.Close(fd))
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.err = errors.Join(l.err, err)
	})
}

// write64 writes 64 blocks and synchronises each, and rests so many times as long.
func write64(fd int, rest time.Duration) error {
	block := make([]byte, blockSize)
	for i := range 64 {
		begin := time.Now()
		if _, err := unix.Pwrite(fd, block, int64(i*blockSize)); err != nil {
			return err
		}
		if err := unix.Fdatasync(fd); err != nil {
			return err
		}
		time.Sleep(min(rest*time.Since(begin), time.Second)) // a guest has one processor
	}
	return nil
}

// look looks until it is stopped: it writes nothing, and reads the disk if there is one. between comes before the next look.
func (w *watch) look(fd int, read func() error, between func(), stopping *atomic.Bool) error {
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: lookPriority}, 0); err != nil {
		return err
	}
	pause := unix.NsecToTimespec(int64(lookEvery))
	for !stopping.Load() {
		if _, err := unix.Pwrite(fd, nil, 0); err != nil {
			return err
		}
		if read != nil {
			if err := read(); err != nil {
				return err
			}
		}
		now := monotonic()
		w.mu.Lock()
		if now-w.last > int64(noStall) && len(w.stalls) < maxStalls {
			w.stalls = append(w.stalls, stall{w.last, now})
		}
		w.last = now
		w.mu.Unlock()
		if between != nil {
			between()
		}
		if err := unix.Nanosleep(&pause, nil); err != nil && err != unix.EINTR {
			return err
		}
	}
	return nil
}

// labour does a little work, and keeps how long it took.
func (c *control) labour() {
	begin, x := monotonic(), uint64(1)
	for range 50000 {
		x = x*6364136223846793005 + 1442695040888963407
	}
	w := work{begin, monotonic() - begin + int64(x&1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fastest = min(c.fastest, w.took)
	if len(c.work) < 100*maxStalls {
		c.work = append(c.work, w)
	}
}

// slowness is how many times slower than it can be the guest's processor was since an instant: at least 1.
func (c *control) slowness(since int64) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	sum, n := int64(0), int64(0)
	for _, w := range c.work {
		if w.at >= since {
			sum, n = sum+w.took, n+1
		}
	}
	if n == 0 {
		return 1
	}
	return float64(sum) / float64(n) / float64(c.fastest)
}

// longest is the longest time, from since on, in which a filesystem could not be used, and which.
func (l *load) longest(since int64) (longest time.Duration, point string) {
	for _, w := range l.watches {
		if d := w.longest(since); d > longest {
			longest, point = d, w.point
		}
	}
	return longest, point
}

// allowed is a time limit that begins at an instant, on a host that has been as slow as this one since.
func (l *load) allowed(limit time.Duration, since int64) time.Duration {
	return time.Duration(float64(limit)*l.control.slowness(since)) + l.control.longest(since)
}

func (w *watch) longest(since int64) (longest time.Duration) {
	now := monotonic()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range append(w.stalls, stall{w.last, now}) {
		longest = max(longest, time.Duration(s.to-max(s.from, since)))
	}
	return longest
}

// since waits until every filesystem could be used after an instant, for so long at most; it reports whether all could.
func (l *load) since(instant int64, limit time.Duration) bool {
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		behind := false
		for _, w := range l.watches {
			w.mu.Lock()
			behind = behind || w.last <= instant
			w.mu.Unlock()
		}
		if !behind || time.Now().After(end) {
			return !behind
		}
	}
}

// forget drops what was kept, before the next case.
func (l *load) forget() {
	for _, w := range l.watches {
		w.forget()
	}
	l.control.forget()
	l.control.mu.Lock()
	defer l.control.mu.Unlock()
	l.control.work = l.control.work[:0]
}

func (w *watch) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stalls = w.stalls[:0]
}

func (l *load) stop(t testing.TB) {
	t.Helper()
	l.stopping.Store(true)
	l.all.Wait()
	if l.err != nil {
		t.Errorf("the load: %v", l.err)
	}
	l.err = nil
}

// monotonic is the time on the clock that the lab tells points by.
func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}
