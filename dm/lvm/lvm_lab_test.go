//go:build lab

package lvm

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
)

// group makes a volume group "fx-tst" with a thin pool "pool" and a thin volume "da-ta" on the lab's second disk.
func group(t *testing.T, l *LVM) {
	t.Helper()
	disks := strings.Fields(os.Getenv("LAB_DISKS"))
	if len(disks) < 2 {
		t.Fatalf("the lab gave %d disks, the test needs 2", len(disks))
	}
	t.Cleanup(func() {
		if err := l.Wait(context.Background()); err != nil {
			t.Error(err)
		}
		for _, c := range [][]string{{"vgremove", "-ff", "-y", "fx-tst"}, {"pvremove", "-y", disks[1]}} {
			if _, err := l.run(context.Background(), c[0], c[1:]...); err != nil {
				t.Error(err)
			}
		}
	})
	for _, c := range [][]string{
		{"vgcreate", "-y", "fx-tst", disks[1]},
		{"lvcreate", "-y", "-L", "256M", "-T", "fx-tst/pool"},
		{"lvcreate", "-y", "-V", "128M", "-T", "fx-tst/pool", "-n", "da-ta"},
	} {
		do(t, second(l.run(t.Context(), c[0], c[1:]...)))
	}
}

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func second[T any](_ T, err error) error { return err }

func find(t *testing.T, l *LVM, name string) LV {
	t.Helper()
	inv, err := l.Report(t.Context())
	do(t, err)
	lv, ok := inv.LV("fx-tst", name)
	if !ok {
		t.Fatalf("no fx-tst/%s in %+v", name, inv.LVs)
	}
	return lv
}

func TestLVMLife(t *testing.T) {
	ctx, l := t.Context(), New(Options{})
	group(t, l)
	inv, err := l.Report(ctx, "fx-tst")
	do(t, err)
	vg, ok := inv.VG("fx-tst")
	if !ok || vg.Shared || vg.ExtentSize != 4<<20 || vg.Free == 0 || vg.Free != vg.FreeCount*vg.ExtentSize || len(inv.PVs) != 1 {
		t.Errorf("%+v, %+v", vg, inv.PVs)
	}
	pool, _ := inv.LV("fx-tst", "pool")
	data, _ := inv.LV("fx-tst", "da-ta")
	if pool.TransactionID == nil || pool.SegType != "thin-pool" || pool.DataPercent == nil || pool.MetadataPercent == nil ||
		pool.MetadataSize == 0 || pool.ChunkSize == 0 || pool.Attr.Type() != 't' {
		t.Errorf("%+v", pool)
	}
	if data.ThinID == nil || data.Pool != "pool" || data.PoolUUID != pool.UUID || !data.Active || data.Size != 128<<20 ||
		data.DMPath != "/dev/mapper/fx--tst-da--ta" || data.Path != "/dev/fx-tst/da-ta" || time.Since(data.Created) > time.Hour {
		t.Errorf("%+v", data)
	}
	for _, hidden := range []string{"pool_tdata", "pool_tmeta"} {
		if _, ok := inv.LV("fx-tst", hidden); !ok {
			t.Errorf("no %s in the report", hidden)
		}
	}

	// What LVM calls a volume, device-mapper calls the same.
	c, err := dm.Open()
	do(t, err)
	defer c.Close()
	info, err := c.Info(dm.ByUUID(data.FullUUIDForDM()))
	do(t, err)
	if dev, ok := data.Dev(); !ok || dev != info.Dev || info.Name != data.DMName() {
		t.Errorf("device %s, %+v", dev, info)
	}
	poolInfo, err := c.Info(dm.ByUUID(pool.FullUUIDForDM() + "-tpool"))
	do(t, err)
	lines, _, err := c.Status(dm.ByDev(poolInfo.Dev), dm.StatusNoFlush)
	do(t, err)
	if s, err := dm.ParseThinPool(lines[0].Params); err != nil || s.TransactionID != *pool.TransactionID {
		t.Errorf("%+v, %v; LVM says transaction %d", s, err, *pool.TransactionID)
	}

	do(t, l.CreateThinSnapshot(ctx, "fx-tst", "da-ta", "one", false, "fermata.prep", "fermata.set=1"))
	do(t, l.CreateThinSnapshot(ctx, "fx-tst", "da-ta", "two", true))
	one, two := find(t, l, "one"), find(t, l, "two")
	if one.Active || !one.SkipActivation || one.Origin != "da-ta" || one.ThinID == nil || one.Attr.ReadOnly() ||
		!slices.Contains(one.Tags, "fermata.prep") || !slices.Contains(one.Tags, "fermata.set=1") || !slices.Contains(one.Role, "snapshot") {
		t.Errorf("%+v", one)
	}
	if two.Active || !two.Attr.ReadOnly() {
		t.Errorf("%+v", two)
	}
	var failed *Error
	if err := l.CreateThinSnapshot(ctx, "fx-tst", "da-ta", "one", false); !errors.As(err, &failed) || !strings.Contains(err.Error(), "already exists") {
		t.Errorf("%v", err)
	}

	both := []string{one.FullName(), two.FullName()}
	do(t, l.ChangeTags(ctx, both, []string{"fermata.snap"}, []string{"fermata.prep"}))
	if one = find(t, l, "one"); slices.Contains(one.Tags, "fermata.prep") || !slices.Contains(one.Tags, "fermata.snap") {
		t.Errorf("%s", one.Tags)
	}
	do(t, l.Activate(ctx, one.FullName(), false))
	if find(t, l, "one").Active {
		t.Error("activated in spite of its activation skip")
	}
	do(t, l.Activate(ctx, one.FullName(), true))
	if one = find(t, l, "one"); !one.Active {
		t.Error("not activated")
	}
	if _, err := os.Stat(one.DMPath); err != nil {
		t.Error(err)
	}
	do(t, l.SetReadOnly(ctx, one.FullName()))
	if !find(t, l, "one").Attr.ReadOnly() {
		t.Error("not sealed")
	}
	do(t, l.Deactivate(ctx, both...))
	if find(t, l, "one").Active {
		t.Error("still active")
	}
	do(t, l.Remove(ctx, both...))
	inv, err = l.Report(ctx)
	do(t, err)
	if _, ok := inv.LV("fx-tst", "one"); ok {
		t.Error("not removed")
	}
}

// Fact 3 of the design by this package's means: an armed snapshot is taken anew under its id, and LVM does not mind.
func TestArmAndFire(t *testing.T) {
	ctx, l := t.Context(), New(Options{})
	group(t, l)
	do(t, l.CreateThinSnapshot(ctx, "fx-tst", "da-ta", "armed", false))
	data, armed, pool := find(t, l, "da-ta"), find(t, l, "armed"), find(t, l, "pool")
	c, err := dm.Open()
	do(t, err)
	defer c.Close()
	poolInfo, err := c.Info(dm.ByUUID(pool.FullUUIDForDM() + "-tpool"))
	do(t, err)
	origin, _ := data.Dev()
	do(t, c.Message(dm.ByDev(poolInfo.Dev), 0, "delete "+itoa(*armed.ThinID)))
	write(t, data.DMPath, "after arming")
	suspend, resume := c.PrepareSuspend(origin, dm.SkipLockFS), c.PrepareResume(origin, dm.SkipLockFS)
	snap := c.PrepareMessage(poolInfo.Dev, 0, "create_snap "+itoa(*armed.ThinID)+" "+itoa(*data.ThinID))
	lock, err := l.LockVG(ctx, "fx-tst")
	do(t, err)
	do(t, errors.Join(suspend.Do(), snap.Do(), resume.Do(), lock.Unlock()))
	write(t, data.DMPath, "after firing")
	do(t, l.Activate(ctx, armed.FullName(), true))
	got := make([]byte, len("after arming"))
	f, err := os.Open(armed.DMPath)
	do(t, err)
	_, err = f.Read(got)
	do(t, errors.Join(err, f.Close()))
	if string(got) != "after arming" {
		t.Errorf("the snapshot holds %q", got)
	}
	if again := find(t, l, "pool"); *again.TransactionID != *pool.TransactionID {
		t.Errorf("transaction id moved from %d to %d", *pool.TransactionID, *again.TransactionID)
	}
	do(t, l.CreateThinSnapshot(ctx, "fx-tst", "da-ta", "next", false))
	do(t, l.Remove(ctx, armed.FullName()))
}

func itoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_SYNC, 0)
	do(t, err)
	_, err = f.WriteString(text)
	do(t, errors.Join(err, f.Close()))
}

// A real lvchange waits while we hold the lock, and is not killed when its caller gives up.
func TestLVMWaitsForLock(t *testing.T) {
	l := New(Options{})
	group(t, l)
	lock, err := l.LockVG(t.Context(), "fx-tst")
	do(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var late *TimeoutError
	if err := l.ChangeTags(ctx, []string{"fx-tst/da-ta"}, []string{"waited"}, nil); !errors.As(err, &late) {
		t.Errorf("lvchange in spite of the lock: %v", err)
	}
	if !l.Busy() {
		t.Error("the lvchange is gone")
	}
	do(t, lock.Unlock())
	do(t, l.Wait(t.Context()))
	if tags := find(t, l, "da-ta").Tags; !slices.Contains(tags, "waited") {
		t.Errorf("tags %s", tags)
	}
	noLocksLeft(t)
}

// We wait while a real lvchange has the lock. It is kept inside its critical section by what fact 15 of the design
// warns of: its archive is on a frozen filesystem.
func TestWaitsForLVM(t *testing.T) {
	l := New(Options{})
	group(t, l)
	const fiFreeze, fiThaw = 0xc0045877, 0xc0045878
	mnt := t.TempDir()
	do(t, exec.Command("mkfs.ext4", "-q", "/dev/mapper/fx--tst-da--ta").Run())
	do(t, exec.Command("mount", "/dev/mapper/fx--tst-da--ta", mnt).Run())
	dir, err := os.Open(mnt)
	do(t, err)
	frozen := false
	t.Cleanup(func() {
		if frozen {
			unix.IoctlSetInt(int(dir.Fd()), fiThaw, 0)
		}
		dir.Close()
		l.Wait(context.Background())
		do(t, exec.Command("umount", mnt).Run())
	})
	archiving := New(Options{Config: `backup { archive=1 backup=0 archive_dir="` + mnt + `" }`})
	do(t, unix.IoctlSetInt(int(dir.Fd()), fiFreeze, 0))
	frozen = true
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var late *TimeoutError
	if err := archiving.ChangeTags(ctx, []string{"fx-tst/da-ta"}, []string{"archived"}, nil); !errors.As(err, &late) {
		t.Errorf("lvchange wrote its archive to a frozen filesystem: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := l.LockVG(short, "fx-tst"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("locked beside lvchange: %v", err)
	}
	locked := make(chan error)
	go func() {
		lock, err := l.LockVG(t.Context(), "fx-tst")
		if err == nil {
			err = lock.Unlock()
		}
		locked <- err
	}()
	do(t, unix.IoctlSetInt(int(dir.Fd()), fiThaw, 0))
	frozen = false
	do(t, <-locked)
	do(t, archiving.Wait(t.Context()))
	if tags := find(t, l, "da-ta").Tags; !slices.Contains(tags, "archived") {
		t.Errorf("tags %s", tags)
	}
	noLocksLeft(t)
}

func noLocksLeft(t *testing.T) {
	t.Helper()
	if left, _ := filepath.Glob("/run/lock/lvm/V_fx-tst*"); len(left) > 0 {
		t.Errorf("left behind: %s", left)
	}
}

// Without backups LVM does not touch /etc.
func TestWithoutBackup(t *testing.T) {
	l := New(Options{})
	group(t, l)
	stamp := func() string {
		out, err := exec.Command("sh", "-c", "ls -l --full-time /etc/lvm/archive /etc/lvm/backup").CombinedOutput()
		do(t, err)
		return string(out)
	}
	before := stamp()
	do(t, l.WithoutBackup().ChangeTags(t.Context(), []string{"fx-tst/da-ta"}, []string{"x"}, nil))
	if after := stamp(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	do(t, l.ChangeTags(t.Context(), []string{"fx-tst/da-ta"}, []string{"y"}, nil))
	if stamp() == before {
		t.Error("and with backups it does not either: the test proves nothing")
	}
}
