//go:build lab

package dm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const mib = 2048 // sectors

// thinPool makes a pool of 64 MiB with a thin volume of 32 MiB, id 0.
func thinPool(t *testing.T, c *Control) (pool, thin Dev) {
	t.Helper()
	d := disk(t, 0)
	meta := create(t, c, "tmeta", linear(4*mib, d, 0))
	zero(t, "tmeta", 4096)
	data := create(t, c, "tdata", linear(64*mib, d, 8*mib))
	pool = create(t, c, "pool", Target{Length: 64 * mib, Type: "thin-pool",
		Params: ThinPoolTable{Metadata: meta, Data: data, BlockSize: 128, LowWater: 512}.String()})
	do(t, c.Message(ByDev(pool), 0, "create_thin 0"))
	thin = create(t, c, "thin", Target{Length: 32 * mib, Type: "thin", Params: ThinTable{Pool: pool}.String()})
	return pool, thin
}

func zero(t *testing.T, name string, n int) {
	t.Helper()
	write(t, name, make([]byte, n))
}

func write(t *testing.T, name string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(NodePath(name), os.O_WRONLY|unix.O_SYNC, 0)
	do(t, err)
	_, err = f.WriteAt(b, 0)
	do(t, err)
	do(t, f.Close())
}

func poolStatus(t *testing.T, c *Control, pool Dev) ThinPoolStatus {
	t.Helper()
	status, _, err := c.Status(ByDev(pool), StatusNoFlush)
	do(t, err)
	s, err := ParseThinPool(status[0].Params)
	do(t, err)
	return s
}

func TestThinStatus(t *testing.T) {
	c := open(t)
	pool, thin := thinPool(t, c)
	s := poolStatus(t, c, pool)
	if s.TotalData != 1024 || s.UsedData != 0 || s.TotalMetadata != 1024 || s.UsedMetadata == 0 || s.Mode != PoolReadWrite ||
		!s.QueueIfNoSpace || s.NeedsCheck || s.TransactionID != 0 {
		t.Errorf("%+v", s)
	}
	write(t, "thin", make([]byte, 4<<20))
	if s := poolStatus(t, c, pool); s.UsedData != 64 {
		t.Errorf("64 blocks written, %d used", s.UsedData)
	}
	status, _, err := c.Status(ByDev(thin), 0)
	do(t, err)
	if s, err := ParseThin(status[0].Params); err != nil || s != (ThinStatus{Mapped: 4 * mib, HighestMapped: 4*mib - 1, HasMapped: true}) {
		t.Errorf("%+v, %v", s, err)
	}
	table, _, err := c.Table(ByDev(pool))
	do(t, err)
	if p, err := ParseThinPoolTable(table[0].Params); err != nil || p.BlockSize != 128 || p.LowWater != 512 || p.ErrorIfNoSpace() {
		t.Errorf("%+v, %v", p, err)
	}
	table, _, err = c.Table(ByDev(thin))
	do(t, err)
	if p, err := ParseThinTable(table[0].Params); err != nil || p != (ThinTable{Pool: pool}) {
		t.Errorf("%+v, %v", p, err)
	}
	do(t, c.Message(ByDev(pool), 0, "set_transaction_id 0 5"))
	if s := poolStatus(t, c, pool); s.TransactionID != 5 {
		t.Errorf("transaction id %d", s.TransactionID)
	}
}

// The calls of a freeze window, over and over: they work again, allocate nothing, and leave the volume as it was.
func TestWindowCalls(t *testing.T) {
	c := open(t)
	pool, thin := thinPool(t, c)
	snap := c.PrepareMessage(pool, 0, "create_snap 1 0")
	forget := c.PrepareMessage(pool, 0, "delete 1")
	suspend, resume := c.PrepareSuspend(thin, SkipLockFS), c.PrepareResume(thin, SkipLockFS)
	private := c.PrepareResumeUdev(thin, SkipLockFS, UdevPrivate)
	info, status := c.PrepareInfo(thin), c.PrepareStatus(pool, StatusNoFlush)
	writes, err := OpenWriteCounter(thin.Major(), thin.Minor())
	do(t, err)
	defer writes.Close()
	before, err := writes.Read()
	do(t, err)

	var failed error
	keep := func(err error) {
		if err != nil && failed == nil {
			failed = err
		}
	}
	var held, free bool
	var used uint64
	start, rounds := time.Now(), 0
	allocs := testing.AllocsPerRun(50, func() {
		rounds++
		keep(suspend.Do())
		keep(info.Do())
		held = info.Suspended()
		keep(snap.Do())
		keep(resume.Do())
		keep(info.Do())
		free = !info.Suspended()
		keep(status.Do())
		s, err := ParseThinPool(status.Params())
		used = s.UsedMetadata
		keep(err)
		_, err = writes.Read()
		keep(err)
		keep(forget.Do())
	})
	t.Logf("%v a round of suspend, create_snap, resume, 2 info, status, write counter and delete", time.Since(start)/time.Duration(rounds))
	do(t, failed)
	if allocs != 0 {
		t.Errorf("%v allocations a round", allocs)
	}
	if !held || !free || used == 0 {
		t.Errorf("suspended %v, resumed %v, used metadata %d", held, free, used)
	}
	do(t, private.Do())
	if after, err := writes.Read(); err != nil || after != before {
		t.Errorf("the calls wrote to the volume: %+v, before %+v, %v", after, before, err)
	}
	write(t, "thin", make([]byte, 64<<10))
	if after, err := writes.Read(); err != nil || after.Written != before.Written+128 {
		t.Errorf("a write of 128 sectors: %+v, before %+v, %v", after, before, err)
	}

	do(t, snap.Do())
	err = snap.Do()
	want := fmt.Sprintf(`cannot send message "create_snap 1 0" to pool: %s`, unix.EEXIST)
	if err == nil || err.Error() != want {
		t.Errorf("snapshot taken twice: %v\nwant %s", err, want)
	}
	do(t, forget.Do())
}

// Fact 2 of the design: over a filesystem that is held frozen, a suspend works with SkipLockFS, on every kernel, and
// leaves nothing behind that forbids the next mount. Without it, kernels before 6.8 refuse.
func TestSuspendOverFrozen(t *testing.T) {
	const fiFreeze, fiThaw = 0xc0045877, 0xc0045878
	c := open(t)
	dev := create(t, c, "frozen", linear(64*mib, disk(t, 0), 0))
	mnt := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", args, err, out)
		}
	}
	run("mkfs.ext4", "-q", NodePath("frozen"))
	run("mount", NodePath("frozen"), mnt)
	dir, err := os.Open(mnt)
	do(t, err)
	do(t, unix.IoctlSetInt(int(dir.Fd()), fiFreeze, 0))
	if old := kernelBefore(t, 6, 8); old {
		if err := c.Suspend(ByDev(dev), 0); !errors.Is(err, unix.EBUSY) {
			t.Errorf("a suspend that freezes what is frozen: %v, want EBUSY", err)
		}
	}
	suspend, resume := c.PrepareSuspend(dev, SkipLockFS), c.PrepareResume(dev, SkipLockFS)
	err = errors.Join(suspend.Do(), resume.Do())
	do(t, errors.Join(err, unix.IoctlSetInt(int(dir.Fd()), fiThaw, 0), dir.Close()))
	run("umount", mnt)
	run("mount", NodePath("frozen"), mnt)
	run("touch", mnt+"/file")
	run("umount", mnt)
}

func kernelBefore(t *testing.T, major, minor int) bool {
	t.Helper()
	var u unix.Utsname
	do(t, unix.Uname(&u))
	var a, b int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b); err != nil {
		t.Fatal(err)
	}
	return a < major || a == major && b < minor
}

// BenchmarkWindow is the floor of a freeze window without its filesystem and its capture: two ioctls a volume, and with the
// looks before each, which prove that the hold is ours and lasted, four.
func BenchmarkWindow(b *testing.B) {
	c, err := Open()
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	dev, err := c.Create("bench", "", CreateOpts{Table: []Target{{0, 2048, "zero", ""}}})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Remove(ByDev(dev.Dev), false)
	suspend, resume := c.PrepareSuspend(dev.Dev, SkipLockFS), c.PrepareResume(dev.Dev, SkipLockFS)
	info := c.PrepareInfo(dev.Dev)
	for _, x := range []struct {
		name  string
		calls []*Call
	}{
		{"look", []*Call{info}},
		{"bare", []*Call{suspend, resume}},
		{"proven", []*Call{info, suspend, info, resume}},
	} {
		b.Run(x.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, call := range x.calls {
					if err := call.Do(); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// A thick snapshot as LVM builds it: origin, COW area, snapshot; its status from fresh to lost, with the event.
func TestSnapshotStatus(t *testing.T) {
	c, d := open(t), disk(t, 0)
	real := create(t, c, "real", linear(16*mib, d, 0))
	cow := create(t, c, "cow", linear(1*mib, d, 32*mib))
	zero(t, "cow", 4096)
	snap := create(t, c, "snap", Target{Length: 16 * mib, Type: "snapshot",
		Params: SnapshotTable{Origin: real, COW: cow, Store: "P", ChunkSize: 8}.String()})
	origin := create(t, c, "origin", Target{Length: 16 * mib, Type: "snapshot-origin", Params: SnapshotOriginTable{real}.String()})

	status := func() SnapshotStatus {
		lines, _, err := c.Status(ByDev(snap), StatusNoFlush)
		do(t, err)
		s, err := ParseSnapshot(lines[0].Params)
		do(t, err)
		return s
	}
	if s := status(); s != (SnapshotStatus{Used: 16, Total: mib, Metadata: 16}) {
		t.Errorf("fresh: %+v", s)
	}
	write(t, "origin", make([]byte, 64<<10))
	if s := status(); s.Used-s.Metadata != 128 || s.Invalid {
		t.Errorf("16 chunks copied: %+v", s)
	}
	lines, _, err := c.Status(ByDev(origin), 0)
	do(t, err)
	if _, err := ParseSnapshotOrigin(lines[0].Params); err != nil {
		t.Error(err)
	}
	lines, _, err = c.Table(ByDev(origin))
	do(t, err)
	if o, err := ParseSnapshotOriginTable(lines[0].Params); err != nil || o.Dest != real {
		t.Errorf("%+v, %v", o, err)
	}
	lines, _, err = c.Table(ByDev(snap))
	do(t, err)
	if s, err := ParseSnapshotTable(lines[0].Params); err != nil || s.Origin != real || s.COW != cow || s.Store != "P" || s.ChunkSize != 8 {
		t.Errorf("%+v, %v", s, err)
	}

	before, err := c.Info(ByDev(snap))
	do(t, err)
	events, err := NewEvents()
	do(t, err)
	defer events.Close()
	write(t, "origin", make([]byte, 4<<20))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	do(t, events.Wait(ctx))
	list, err := c.List()
	do(t, err)
	for _, e := range list {
		if e.Dev == snap && e.EventNr == before.EventNr {
			t.Errorf("the snapshot's event number stayed at %d", e.EventNr)
		}
	}
	if s := status(); !s.Invalid {
		t.Errorf("after an overflow: %+v", s)
	}
}

// A pool that runs out of data space says so by an event.
func TestPoolOutOfData(t *testing.T) {
	c := open(t)
	pool, _ := thinPool(t, c)
	table, _, err := c.Table(ByDev(pool))
	do(t, err)
	p, err := ParseThinPoolTable(table[0].Params)
	do(t, err)
	p.Features = []string{"error_if_no_space"}
	p.LowWater = 0
	do(t, c.Load(ByDev(pool), []Target{{0, 2 * mib, "thin-pool", p.String()}}, false))
	// A pool cannot shrink: the load is fine, the resume is not.
	if err := c.Resume(ByDev(pool), SkipLockFS); err == nil {
		t.Error("a pool shrank")
	}
	do(t, c.Clear(ByDev(pool)))
	do(t, c.Load(ByDev(pool), []Target{{0, 64 * mib, "thin-pool", p.String()}}, false))
	do(t, c.Suspend(ByDev(pool), SkipLockFS))
	do(t, c.Resume(ByDev(pool), SkipLockFS))
	events, err := NewEvents()
	do(t, err)
	defer events.Close()
	do(t, c.Message(ByDev(pool), 0, "create_thin 7"))
	create(t, c, "big", Target{Length: 128 * mib, Type: "thin", Params: ThinTable{Pool: pool, ID: 7}.String()})
	f, err := os.OpenFile(NodePath("big"), os.O_WRONLY|unix.O_SYNC, 0)
	do(t, err)
	defer f.Close()
	for i := range int64(128) {
		if _, err = f.WriteAt(make([]byte, 1<<20), i<<20); err != nil {
			break
		}
	}
	if err == nil {
		t.Error("128 MiB fit into 64")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for s := poolStatus(t, c, pool); s.Mode != PoolOutOfDataSpace; s = poolStatus(t, c, pool) {
		if err := events.Wait(ctx); err != nil {
			t.Fatalf("%v; pool %+v", err, s)
		}
	}
	if s := poolStatus(t, c, pool); s.UsedData != 1024 || s.QueueIfNoSpace {
		t.Errorf("%+v", s)
	}
}
