package guard

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/fsfreeze"
)

// dying is a guard that takes one hold, and does as it is told with its board; then it is dead.
func dying(t *testing.T) (socket string, die func(last func(*Board))) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "guard.sock")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	orders, done := make(chan func(*Board)), make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.AcceptUnix()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		var p plan
		fds, err := receive(conn, &p, MaxFilesystems+1)
		if err != nil {
			t.Error(err)
			return
		}
		b, err := openBoard(fds[0], len(p.Devices))
		if err != nil {
			t.Error(err)
			return
		}
		defer b.Close()
		defer b.Unmap()
		if err := send(conn, answer{Armed: true}); err != nil {
			t.Error(err)
			return
		}
		(<-orders)(b)
	}()
	return socket, func(last func(*Board)) {
		orders <- last
		<-done
	}
}

// What a guard has claimed and not released when it died is released by the daemon, and so is what it had not claimed; what
// it has released is not released again.
func TestGuardDiesAfterItsClaim(t *testing.T) {
	for _, expired := range []bool{false, true} {
		socket, die := dying(t)
		var resumed [4]atomic.Int32
		a, err := Arm(context.Background(), socket, "set", time.Minute, nil, []uint64{1, 2, 3, 4}, func(dev uint64) func() error {
			return func() error { resumed[dev-1].Add(1); return nil }
		})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			take(a.DeviceCell(i))
		}
		die(func(b *Board) {
			b.End(Deadline)
			b.Cell(0).Seize()
			b.Cell(1).Seize()
			b.Cell(1).Done()
		})
		if a.DeviceCell(0).Claim() {
			t.Fatal("what the guard has claimed was claimed again")
		}
		if expired { // the window was stuck
			a.Expire(time.Minute)
		}
		why, report, err := a.Close()
		want := []string{"device 0:1", "device 0:3"}
		if why != Deadline || report.Reason != "deadline" || !slices.Equal(report.Released, want) || len(report.Errors) > 0 ||
			err == nil || !strings.Contains(err.Error(), "cannot hear from the guard: ") || !strings.Contains(err.Error(), "released in its place: [device 0:1 device 0:3]") {
			t.Errorf("got %v, %+v, %v", why, report, err)
		}
		for i, times := range []int32{1, 0, 1, 0} {
			if got := resumed[i].Load(); got != times || a.DeviceCell(i).State() != fsfreeze.Released {
				t.Errorf("device %d was resumed %d times, want %d; it is %v", i+1, got, times, a.DeviceCell(i).State())
			}
		}
	}
}

// What is stuck in the kernel when the guard dies is released as soon as the kernel has taken it. The hold's end does not
// wait for that.
func TestGuardDiesWhileTheKernelIsStillTaking(t *testing.T) {
	socket, die := dying(t)
	var suspended, resumed atomic.Bool
	a, err := Arm(context.Background(), socket, "set", time.Minute, nil, []uint64{1}, func(uint64) func() error {
		return func() error {
			if !suspended.Load() {
				return unix.EINVAL
			}
			resumed.Store(true)
			return nil
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	a.DeviceCell(0).Begin()
	die(func(b *Board) { b.End(Deadline); b.Cell(0).Overtake() })
	why, report, err := a.Close()
	if why != Deadline || len(report.Released) > 0 || err == nil || resumed.Load() {
		t.Errorf("got %v, %+v, %v", why, report, err)
	}
	suspended.Store(true)
	if a.DeviceCell(0).Took(true) {
		t.Error("a suspend that came too late is taken for the daemon's own")
	}
	await(t, "release", func() bool { return resumed.Load() && a.DeviceCell(0).State() == fsfreeze.Released })
}

// A guard that dies in a hold that ends in order leaves nothing to release.
func TestGuardDiesWithNothingHeld(t *testing.T) {
	socket, die := dying(t)
	a, err := Arm(context.Background(), socket, "set", time.Minute, nil, []uint64{1, 2}, ours)
	if err != nil {
		t.Fatal(err)
	}
	take(a.DeviceCell(0))
	die(func(*Board) {})
	a.DeviceCell(0).Claim()
	a.DeviceCell(0).Done()
	why, report, err := a.Close()
	if why != Closed || report.Reason != "" || len(report.Released) > 0 || err == nil || strings.Contains(err.Error(), "in its place") {
		t.Errorf("got %v, %+v, %v", why, report, err)
	}
}
