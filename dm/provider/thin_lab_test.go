//go:build lab

package provider_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/lvm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/providertest"
	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/lab/labtest"
)

func TestThin(t *testing.T) {
	providertest.Run(t, func(t *testing.T) providertest.Bench { return newBench(t) })
}

// What is only so with thin pools.
func TestThinPools(t *testing.T) {
	b := newBench(t)
	o := b.Origin(t, 0, "one")
	arm := func(t *testing.T, id string) provider.Enlistment {
		t.Helper()
		e, err := b.Provider().Prepare(t.Context(), provider.Set{ID: id, Members: 1}, []provider.Volume{o.Volume()})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	t.Run("what only looks like a thin volume is not taken", func(t *testing.T) {
		labtest.Run(t, "lvcreate", "-qq", "-y", "-L", "8m", "-n", "linear", "ft-a")
		for _, device := range []string{"ft--a-linear", "ft--a-pool", "ft--a-pool-tpool", "ft--a-pool_tdata"} {
			if c, err := b.Provider().Claim(b.volume(t, device)); err == nil {
				t.Errorf("%s was taken as %+v", device, c)
			}
		}
		if c, err := b.Provider().Claim(o.Volume()); err != nil || c.Name != "ft-a/one" {
			t.Errorf("got %+v, %v", c, err)
		}
	})
	t.Run("any change of the pool gives an armed set up", func(t *testing.T) { // thin device ids may be somebody else's by now
		e := arm(t, "20261120T000000_0001")
		labtest.Run(t, "lvcreate", "-qq", "-y", "-V", "8m", "--thin", "-n", "another", "ft-a/pool")
		if err := e.Lock(t.Context()); !errors.Is(err, provider.ErrChanged) {
			t.Errorf("Lock: %v", err)
		}
		if err := e.Abort(t.Context()); err != nil {
			t.Error(err)
		}
		b.Others(t, o)
	})
	t.Run("no lvm command changes a locked group", func(t *testing.T) {
		e := arm(t, "20261120T000000_0002")
		if err := e.Lock(t.Context()); err != nil {
			t.Fatal(err)
		}
		out, status := labtest.Try(t, "lvcreate", "-qq", "-y", "-V", "8m", "--thin", "-n", "late", "ft-a/pool", "--config", "global/wait_for_locks=0")
		if status == 0 || !strings.Contains(out, "lock") {
			t.Errorf("lvcreate inside the lock: status %d: %s", status, out)
		}
		if err := errors.Join(e.Unlock(), e.Abort(t.Context())); err != nil {
			t.Error(err)
		}
	})
}

// groups are the volume groups of a bench: one with a hyphen in its name, because hyphens double in device names.
var groups = []string{"ft-a", "ftb"}

// reserve of the bench's pools.
type percent uint64

func (p percent) Of(total uint64) uint64 { return total / 100 * uint64(p) }
func (p percent) String() string         { return fmt.Sprintf("%d%%", uint64(p)) }

// bench has two volume groups, each on a disk of its own, with a thin pool "pool".
type bench struct {
	control *dm.Control
	lvm     *lvm.LVM
	made    map[string]bool // device names that belong to the bench
}

func newBench(t *testing.T) *bench {
	labtest.CheckClean(t)
	control, err := dm.Open()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{control: control, lvm: lvm.New(lvm.Options{}), made: map[string]bool{}}
	disks := labtest.Disks(t)
	if len(disks) < 2 {
		t.Fatalf("the lab gave %d disks, the test needs 2", len(disks))
	}
	for i, vg := range groups {
		labtest.Run(t, "vgcreate", "-qq", "-ff", "-y", vg, disks[i])
		t.Cleanup(func() {
			labtest.Run(t, "vgremove", "-qq", "-ff", "-y", vg)
			labtest.Run(t, "pvremove", "-qq", "-ff", "-y", disks[i])
		})
		labtest.Run(t, "lvcreate", "-qq", "-y", "-L", "256m", "--thinpool", vg+"/pool", "--poolmetadatasize", "8m", "--errorwhenfull", "y")
		for _, layer := range []string{"pool", "pool-tpool", "pool_tdata", "pool_tmeta"} {
			b.made[dm.EscapeLVMName(vg)+"-"+layer] = true
		}
	}
	t.Cleanup(func() {
		if err := b.lvm.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bench) Provider() provider.Provider {
	return provider.NewThin(b.control, b.lvm, provider.Reserve{Data: percent(10), Metadata: percent(10)})
}

// LongestName leaves a device name of 126 characters, which is as much as LVM allows.
func (*bench) LongestName(group int) int { return 126 - len(dm.JoinLVMName(groups[group], "", "")) }

// Origin makes volumes with ext4, and with XFS if the name has a hyphen.
func (b *bench) Origin(t testing.TB, group int, name string) providertest.Origin {
	t.Helper()
	vg, fstype, size := groups[group], "ext4", "64m"
	if strings.Contains(name, "two") {
		fstype, size = "xfs", "320m"
	}
	labtest.Run(t, "lvcreate", "-qq", "-y", "-V", size, "--thin", "-n", name, vg+"/pool")
	device := dm.JoinLVMName(vg, name, "")
	b.made[device] = true
	labtest.Run(t, "mkfs."+fstype, "-q", "/dev/mapper/"+device)
	o := &mounted{bench: b, v: b.volume(t, device)}
	o.v.Name, o.v.FSType, o.v.MountPoint = vg+"/"+name, fstype, filepath.Join("/srv", vg, name)
	if err := os.MkdirAll(o.v.MountPoint, 0o755); err != nil {
		t.Fatal(err)
	}
	o.mount(t)
	t.Cleanup(func() {
		labtest.Run(t, "umount", o.v.MountPoint)
		labtest.Run(t, "lvremove", "-qq", "-y", o.v.Name)
		delete(b.made, device)
	})
	return o
}

// volume is what the kernel tells of a device.
func (b *bench) volume(t testing.TB, device string) provider.Volume {
	t.Helper()
	info, err := b.control.Info(dm.ByName(device))
	if err != nil {
		t.Fatal(err)
	}
	stack, err := fsfreeze.Stack(os.DirFS("/sys"), uint64(info.Dev))
	if err != nil {
		t.Fatal(err)
	}
	return provider.Volume{Dev: info.Dev, Device: device, UUID: info.UUID, Name: device, Size: stack.Size}
}

func (b *bench) Content(t testing.TB, device string) (c providertest.Content) {
	t.Helper()
	b.at(t, device, unix.MS_RDONLY, map[string]string{"ext4": "noload", "xfs": "nouuid,norecovery"}, func(dir string) { c = read(t, dir) })
	return c
}

func (b *bench) Write(t testing.TB, device, key, value string) {
	t.Helper()
	b.at(t, device, 0, map[string]string{"ext4": "", "xfs": "nouuid"}, func(dir string) { write(t, dir, key, value) })
}

// at mounts a device for a moment.
func (*bench) at(t testing.TB, device string, flags uintptr, options map[string]string, do func(dir string)) {
	t.Helper()
	f, err := os.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	magic := make([]byte, 4)
	_, err = f.ReadAt(magic, 0)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	fstype := "ext4"
	if string(magic) == "XFSB" {
		fstype = "xfs"
	}
	dir := t.TempDir()
	if err := unix.Mount(device, dir, fstype, flags, options[fstype]); err != nil {
		t.Fatalf("cannot mount %s: %v", device, err)
	}
	do(dir)
	labtest.Run(t, "umount", dir)
}

// Traces are devices, volumes and locks that are not the bench's own.
func (b *bench) Traces(t testing.TB) string {
	t.Helper()
	var out []string
	for line := range strings.Lines(labtest.Run(t, "dmsetup", "table")) {
		if name, _, _ := strings.Cut(line, ":"); !b.made[name] {
			out = append(out, line)
		}
	}
	for line := range strings.Lines(labtest.Run(t, "lvs", "-a", "--noheadings", "-o", "vg_name,lv_name,lv_tags")) {
		if f := strings.Fields(line); !b.made[dm.JoinLVMName(f[0], f[1], "")] && !strings.HasPrefix(f[1], "[") && f[1] != "lvol0_pmspare" {
			out = append(out, line)
		}
	}
	locks, err := filepath.Glob("/run/lock/lvm/V_*")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(append(out, locks...), "\n")
}

func (*bench) Remove(t testing.TB, snapshot string) {
	t.Helper()
	labtest.Run(t, "lvremove", "-qq", "-y", snapshot)
}

func (*bench) Others(t testing.TB, o providertest.Origin) {
	t.Helper()
	vg, _, _ := strings.Cut(o.Volume().Name, "/")
	labtest.Run(t, "lvcreate", "-qq", "-y", "-s", "-n", "other", o.Volume().Name)
	labtest.Run(t, "lvchange", "-qq", "-ay", "-K", vg+"/other")
	labtest.Run(t, "lvremove", "-qq", "-y", vg+"/other")
	labtest.Run(t, "vgck", vg)
}

// Fill leaves less room than the reserve.
func (b *bench) Fill(t testing.TB) { b.filler(t, "240") }

// Break fills the pool until it takes no more: a pool that has run out of data space fails writes at once, for it was
// made so.
func (b *bench) Break(t testing.TB) { b.filler(t, "260") }

func (b *bench) filler(t testing.TB, megabytes string) {
	t.Helper()
	labtest.Run(t, "lvcreate", "-qq", "-y", "-V", "320m", "--thin", "-n", "filler", "ft-a/pool")
	b.made["ft--a-filler"] = true
	labtest.Try(t, "dd", "if=/dev/zero", "of=/dev/mapper/ft--a-filler", "bs=1M", "oflag=direct", "status=none", "count="+megabytes)
}

// mounted is a thin volume with a filesystem.
type mounted struct {
	bench  *bench
	v      provider.Volume
	handle *fsfreeze.Handle
}

func (o *mounted) Volume() provider.Volume { return o.v }

func (o *mounted) mount(t testing.TB) {
	t.Helper()
	if err := unix.Mount("/dev/mapper/"+o.v.Device, o.v.MountPoint, o.v.FSType, 0, ""); err != nil {
		t.Fatalf("cannot mount %s: %v", o.v.Device, err)
	}
}

func (o *mounted) Write(t testing.TB, key, value string) {
	t.Helper()
	write(t, o.v.MountPoint, key, value)
}

func write(t testing.TB, dir, key, value string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, key), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		t.Error(err)
		return
	}
	_, err = f.WriteString(value)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Error(err)
	}
}

func (o *mounted) Content(t testing.TB) providertest.Content {
	t.Helper()
	return read(t, o.v.MountPoint)
}

func read(t testing.TB, dir string) providertest.Content {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := providertest.Content{}
	for _, e := range entries {
		if e.IsDir() {
			continue // lost+found
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		c[e.Name()] = string(b)
	}
	return c
}

func (o *mounted) Freeze(t testing.TB) {
	t.Helper()
	mounts, err := fsfreeze.Mounts()
	if err != nil {
		t.Fatal(err)
	}
	all := fsfreeze.Filesystems(mounts)
	i := slices.IndexFunc(all, func(f fsfreeze.Filesystem) bool { return f.Dev == uint64(o.v.Dev) })
	if o.handle, err = fsfreeze.Open(all[i]); err == nil {
		err = o.handle.Freeze()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (o *mounted) Thaw(t testing.TB) {
	t.Helper()
	if err := errors.Join(o.handle.Thaw(), o.handle.Close()); err != nil {
		t.Error(err)
	}
}

func (o *mounted) Suspended(t testing.TB) bool {
	t.Helper()
	info, err := o.bench.control.Info(dm.ByDev(o.v.Dev))
	if err != nil {
		t.Fatal(err)
	}
	return info.Suspended
}

func (o *mounted) Suspend(t testing.TB) {
	t.Helper()
	if err := o.bench.control.Suspend(dm.ByDev(o.v.Dev), 0); err != nil {
		t.Fatal(err)
	}
}

func (o *mounted) Resume(t testing.TB) {
	t.Helper()
	if err := o.bench.control.Resume(dm.ByDev(o.v.Dev), dm.SkipLockFS); err != nil {
		t.Fatal(err)
	}
}

// Check looks at the filesystem while nobody uses it; mounting it again shows that it can be.
func (o *mounted) Check(t testing.TB) {
	t.Helper()
	before := read(t, o.v.MountPoint)
	labtest.Run(t, "umount", o.v.MountPoint)
	check := map[string][]string{"ext4": {"e2fsck", "-fn"}, "xfs": {"xfs_repair", "-n"}}[o.v.FSType]
	labtest.Run(t, append(check, "/dev/mapper/"+o.v.Device)...)
	o.mount(t)
	if after := read(t, o.v.MountPoint); !maps.Equal(before, after) {
		t.Errorf("%s shows something else after it was mounted again", o.v.Name)
	}
	vg, _, _ := strings.Cut(o.v.Name, "/")
	labtest.Run(t, "vgck", vg)
}
