package guard

import (
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/fsfreeze"
)

// seqpacket is a pair of connected sockets.
func seqpacket(t *testing.T) (ours, theirs *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		conns[i] = c.(*net.UnixConn)
		t.Cleanup(func() { c.Close() })
	}
	return conns[0], conns[1]
}

// newHold makes a hold of devices 1, 2, … as the guard would; release releases one.
func newHold(t *testing.T, deadline time.Duration, devices int, release func(dev uint64) error) (h *hold, daemon *net.UnixConn) {
	t.Helper()
	ours, theirs := seqpacket(t)
	board, err := newBoard(devices)
	if err != nil {
		t.Fatal(err)
	}
	defer board.Close()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	p := plan{Set: "set", Deadline: ts.Nano() + int64(deadline)}
	for i := range devices {
		p.Devices = append(p.Devices, uint64(i+1))
	}
	if err := send(theirs, p, board.fd); err != nil {
		t.Fatal(err)
	}
	told, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(told) })
	s := &Server{Resume: func(dev uint64) (func() error, error) { return func() error { return release(dev) }, nil }}
	if h, err = s.accept(ours, told); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
	})
	return h, theirs
}

// From the moment that the daemon may freeze until everything is released the guard allocates nothing: whatever ends the
// hold, and if releases have to be tried again.
func TestKeepAllocatesNothing(t *testing.T) {
	const devices, runs = 3, 20
	for name, end := range map[string]func(*testing.T, *hold, *net.UnixConn){
		"death":    func(_ *testing.T, _ *hold, daemon *net.UnixConn) { daemon.Close() },
		"deadline": func(_ *testing.T, h *hold, _ *net.UnixConn) { h.plan.Deadline = 0 },
		"done": func(t *testing.T, h *hold, daemon *net.UnixConn) {
			if err := send(daemon, done{true}); err != nil {
				t.Fatal(err)
			}
		},
		"stop": func(t *testing.T, h *hold, _ *net.UnixConn) {
			if _, err := unix.Write(int(h.polled[1].Fd), []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var attempts, released atomic.Int32
			var holds []*hold
			for range runs + 1 { // AllocsPerRun runs once more than it counts
				h, daemon := newHold(t, time.Minute, devices, func(uint64) error {
					if attempts.Add(1)%2 == 1 {
						return unix.EBUSY
					}
					released.Add(1)
					return nil
				})
				for i := range devices {
					take(h.board.Cell(i))
				}
				end(t, h, daemon)
				if name != "death" { // later, so that it ends
					time.AfterFunc(50*time.Millisecond, func() { daemon.Close() })
				}
				holds = append(holds, h)
			}
			n := 0
			allocations := testing.AllocsPerRun(runs, func() {
				holds[n].keep()
				n++
			})
			if allocations != 0 {
				t.Errorf("%v allocations", allocations)
			}
			want := int32(devices * (runs + 1))
			if name == "done" {
				want = 0 // the daemon released them
			}
			if got := released.Load(); got != want {
				t.Errorf("%d devices were released, want %d", got, want)
			}
		})
	}
}

// A device that the kernel is stuck with does not keep the filesystems frozen that need not wait for it.
func TestStuckDeviceKeepsNoFilesystemFrozen(t *testing.T) {
	h, daemon := newHold(t, 0, 1, func(uint64) error { return unix.EINVAL })
	h.board.Cell(0).Begin() // the suspend does not return
	var thawed atomic.Bool
	h.systems = fsfreeze.NewCrew(1)
	h.thaw = func(int) error { thawed.Store(true); return nil }
	over := make(chan bool)
	go func() {
		runtime.LockOSThread()
		over <- h.keep()
	}()
	await(t, "thaw", thawed.Load)
	if h.board.Cell(0).State() != fsfreeze.Overtaken {
		t.Errorf("the device is %v", h.board.Cell(0).State())
	}
	daemon.Close() // its last thread has left the kernel
	if <-over {
		t.Error("finished in order")
	}
	if r := h.report(); r.Reason != "deadline" || len(r.Released) != 0 || len(r.Errors) != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestDoneMessage(t *testing.T) {
	ours, theirs := seqpacket(t)
	if err := send(theirs, done{true}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	if n, err := ours.Read(b); err != nil || string(b[:n]) != doneMessage {
		t.Errorf("got %q, %v", b[:n], err)
	}
}
