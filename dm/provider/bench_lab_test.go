//go:build lab

package provider_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
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

// groups are the volume groups of a bench: one with a hyphen in its name, because hyphens double in device names.
var groups = []string{"ft-a", "ftb"}

// reserve of the bench's pools.
type percent uint64

func (p percent) Of(total uint64) uint64 { return total / 100 * uint64(p) }
func (p percent) String() string         { return fmt.Sprintf("%d%%", uint64(p)) }

// bench has two volume groups, each on a disk of its own.
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
	}
	t.Cleanup(func() {
		if err := b.lvm.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return b
}

// origin makes a volume with ext4, or with XFS if it is named two; create says how, by a size.
func (b *bench) origin(t testing.TB, group int, name string, create func(vg, size string) []string) providertest.Origin {
	t.Helper()
	vg, fstype, size := groups[group], "ext4", "64m"
	if strings.Contains(name, "two") {
		fstype, size = "xfs", "320m"
	}
	labtest.Run(t, append([]string{"lvcreate", "-qq", "-y", "-n", name}, create(vg, size)...)...)
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
		// A table of the bench's own can still tell of a snapshot: that of an origin of thick ones.
		if name, table, _ := strings.Cut(line, ":"); !b.made[name] || strings.Contains(table, "snapshot") {
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

// Sum is the SHA-256 of all that a device holds, past every cache.
func (*bench) Sum(t testing.TB, device string) string {
	t.Helper()
	return labtest.Run(t, "sh", "-c", `dd if="$1" iflag=direct bs=1M status=none | sha256sum`, "sh", device)
}

// Load writes to a volume's filesystem at random until it is stopped.
func (*bench) Load(t testing.TB, o providertest.Origin) (stop func()) {
	t.Helper()
	c := exec.Command("fio", "--name=load", "--directory="+o.Volume().MountPoint, "--rw=randwrite", "--bs=4k", "--size=16m",
		"--ioengine=psync", "--fdatasync=8", "--time_based", "--runtime=600")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := c.Process.Signal(unix.SIGINT); err != nil {
			t.Error(err)
		}
		if err := c.Wait(); c.ProcessState == nil {
			t.Error(err)
		}
		if err := os.Remove(filepath.Join(o.Volume().MountPoint, "load.0.0")); err != nil { // it was there, so fio has worked
			t.Error(err)
		}
	}
}

// mounted is a volume with a filesystem.
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
