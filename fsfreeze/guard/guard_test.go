package guard

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/fsfreeze"
)

// serve starts a guard whose devices are counters of releases.
func serve(t *testing.T) (socket string, resumed *atomic.Int32, stop func()) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "guard.sock")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	resumed = new(atomic.Int32)
	s := &Server{
		Resume: func(dev uint64) (func() error, error) {
			if dev == 13 {
				return nil, unix.ENXIO
			}
			if dev == 22 {
				return func() error { return unix.EINVAL }, nil
			}
			return func() error { resumed.Add(1); return nil }, nil
		},
		Notes: filepath.Dir(socket),
		Log:   slog.New(slog.DiscardHandler),
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- s.Serve(ctx, l) }()
	stop = func() {
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
		over <- nil
	}
	t.Cleanup(stop)
	return socket, resumed, stop
}

func arm(t *testing.T, socket string, deadline time.Duration, devices ...uint64) *Armed {
	t.Helper()
	a, err := Arm(context.Background(), socket, "set", deadline, nil, devices, ours)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// ours is how the daemon releases a device in the guard's place: never, if the guard lives.
func ours(dev uint64) func() error {
	return func() error { panic("the guard lives") }
}

func take(c *fsfreeze.Cell) {
	c.Begin()
	c.Took(true)
}

func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 5 s", what)
		}
	}
}

func TestClosedInOrderReleasesNothing(t *testing.T) {
	socket, resumed, _ := serve(t)
	a := arm(t, socket, time.Minute, 1, 2)
	take(a.DeviceCell(0))
	a.DeviceCell(0).Claim()
	a.DeviceCell(0).Done()
	why, report, err := a.Close()
	if err != nil || why != Closed || report.Reason != "" || resumed.Load() != 0 {
		t.Errorf("got %v, %+v, %v, %d resumed", why, report, err, resumed.Load())
	}
}

func TestDeadlineReleasesWhatIsHeld(t *testing.T) {
	socket, resumed, _ := serve(t)
	a := arm(t, socket, time.Second, 1, 2, 3)
	take(a.DeviceCell(0))
	take(a.DeviceCell(2))
	await(t, "release", func() bool { return resumed.Load() == 2 })
	await(t, "forbid", func() bool { return a.DeviceCell(1).State() == fsfreeze.Released })
	if a.DeviceCell(1).Begin() {
		t.Error("a device may be suspended after the deadline")
	}
	why, report, err := a.Close()
	if err != nil || why != Deadline || len(report.Released) != 2 || report.Reason != "deadline" {
		t.Errorf("got %v, %+v, %v", why, report, err)
	}
}

func TestDeathReleasesWhatIsHeld(t *testing.T) {
	socket, resumed, _ := serve(t)
	a := arm(t, socket, time.Minute, 1)
	take(a.DeviceCell(0))
	a.conn.Close() // what the kernel does to a dead process
	await(t, "release", func() bool { return resumed.Load() == 1 })
	await(t, "note", func() bool { _, found, _ := ReadNote(filepath.Dir(socket), "set"); return found })
	r, _, err := ReadNote(filepath.Dir(socket), "set")
	if err != nil || r.Reason != "daemon died" || len(r.Released) != 1 {
		t.Errorf("note: got %+v, %v", r, err)
	}
	if err := RemoveNote(filepath.Dir(socket), "set"); err != nil {
		t.Error(err)
	}
}

func TestDeathWhileTheKernelIsStillTaking(t *testing.T) {
	socket, resumed, _ := serve(t)
	a := arm(t, socket, time.Minute, 1)
	a.DeviceCell(0).Begin()
	a.conn.Close()
	await(t, "release", func() bool { return resumed.Load() == 1 && a.DeviceCell(0).State() == fsfreeze.Released })
}

// What a daemon announced and died before it took is not waited for: the connection ends when no thread of it is left in
// the kernel.
func TestDeathBeforeTheKernelWasAsked(t *testing.T) {
	socket, _, _ := serve(t)
	a := arm(t, socket, time.Minute, 22)
	a.DeviceCell(0).Begin()
	a.conn.Close()
	await(t, "note", func() bool { _, found, _ := ReadNote(filepath.Dir(socket), "set"); return found })
	r, _, err := ReadNote(filepath.Dir(socket), "set")
	if err != nil || len(r.Released) != 0 || len(r.Errors) != 0 || a.DeviceCell(0).State() != fsfreeze.Released {
		t.Errorf("got %+v, %v, %v", r, err, a.DeviceCell(0).State())
	}
}

func TestStopReleasesWhatIsHeld(t *testing.T) {
	socket, resumed, stop := serve(t)
	a := arm(t, socket, time.Minute, 1)
	take(a.DeviceCell(0))
	go stop()
	await(t, "release", func() bool { return resumed.Load() == 1 })
	if why, _, _ := a.Close(); why != Stopped {
		t.Errorf("got %v", why)
	}
}

// What a hold takes is locked in memory, and the guard's is never given back.
func TestHoldTakesLittleMemory(t *testing.T) {
	socket, _, _ := serve(t)
	var before, after runtime.MemStats
	const holds = 50
	runtime.ReadMemStats(&before)
	for range holds {
		if _, _, err := arm(t, socket, time.Minute, 1, 2).Close(); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	// Both ends are in this process.
	if each := (after.TotalAlloc - before.TotalAlloc) / holds; each > 64<<10 {
		t.Errorf("a hold took %d KiB", each>>10)
	}
}

func TestRefusals(t *testing.T) {
	socket, _, _ := serve(t)
	if _, err := Arm(context.Background(), socket, "set", time.Second, nil, []uint64{13}, ours); err == nil {
		t.Error("a device that cannot be resumed was accepted")
	}
	if _, err := Arm(context.Background(), socket+"x", "set", time.Second, nil, nil, ours); err == nil {
		t.Error("armed without a guard")
	}
	if _, err := Arm(context.Background(), socket, "set", time.Second, make([]*fsfreeze.Handle, MaxFilesystems+1), nil, ours); err == nil {
		t.Error("too many filesystems were accepted")
	}
}

// A guard knows of a hold until its note is written, and one that never had it says so at once.
func TestGuarding(t *testing.T) {
	socket, _, _ := serve(t)
	guarding := func(set string) bool {
		t.Helper()
		yes, err := Guarding(socket, set, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return yes
	}
	if guarding("set") {
		t.Error("it has a hold before there is one")
	}
	a := arm(t, socket, time.Minute, 1)
	take(a.DeviceCell(0))
	if !guarding("set") || guarding("other") {
		t.Errorf("of set it says %v, of other %v", guarding("set"), guarding("other"))
	}
	if err := a.conn.Close(); err != nil { // the daemon dies
		t.Fatal(err)
	}
	await(t, "the hold is over", func() bool { return !guarding("set") })
	if _, noted, err := ReadNote(filepath.Dir(socket), "set"); !noted || err != nil {
		t.Errorf("the hold is over, and its note is there: %v, %v", noted, err)
	}
	if _, err := Guarding(filepath.Join(t.TempDir(), "none"), "set", time.Second); err == nil {
		t.Error("nobody answered, and there was no error")
	}
}

// A daemon that dies between saying that it releases something and releasing it has not released it.
func TestDeathWhileReleasing(t *testing.T) {
	socket, resumed, _ := serve(t)
	a := arm(t, socket, time.Minute, 1)
	take(a.DeviceCell(0))
	a.DeviceCell(0).Claim()
	if err := a.conn.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, "it is resumed", func() bool { return resumed.Load() == 1 })
	await(t, "its note", func() bool { _, noted, _ := ReadNote(filepath.Dir(socket), "set"); return noted })
	if r, _, err := ReadNote(filepath.Dir(socket), "set"); err != nil || len(r.Released) != 1 || len(r.Errors) > 0 {
		t.Errorf("got %+v, %v", r, err)
	}
}
