package providertest

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/lab/labtest"
)

// Mounted is the Origin of a bench of real devices: ext4 or XFS on a device-mapper device, mounted.
type Mounted struct {
	Vol     provider.Volume
	control *dm.Control
	handle  *fsfreeze.Handle
}

// Mount makes a volume's filesystem and mounts it where the volume says, until the test is over.
func Mount(t testing.TB, control *dm.Control, v provider.Volume) *Mounted {
	t.Helper()
	o := &Mounted{Vol: v, control: control}
	labtest.Run(t, "mkfs."+v.FSType, "-q", o.path())
	if err := os.MkdirAll(v.MountPoint, 0o755); err != nil {
		t.Fatal(err)
	}
	o.Mount(t)
	t.Cleanup(func() {
		labtest.Run(t, "umount", o.Vol.MountPoint)
		if err := os.Remove(o.Vol.MountPoint); err != nil {
			t.Error(err)
		}
	})
	return o
}

func (o *Mounted) path() string { return "/dev/mapper/" + o.Vol.Device }

// Mount mounts it again.
func (o *Mounted) Mount(t testing.TB) {
	t.Helper()
	if err := unix.Mount(o.path(), o.Vol.MountPoint, o.Vol.FSType, 0, ""); err != nil {
		t.Fatalf("cannot mount %s: %v", o.Vol.Device, err)
	}
}

func (o *Mounted) Volume() provider.Volume { return o.Vol }

func (o *Mounted) Write(t testing.TB, key, value string) {
	t.Helper()
	write(t, o.Vol.MountPoint, key, value)
}

func (o *Mounted) Content(t testing.TB) Content {
	t.Helper()
	return read(t, o.Vol.MountPoint)
}

func (o *Mounted) Freeze(t testing.TB) {
	t.Helper()
	mounts, err := fsfreeze.Mounts()
	if err != nil {
		t.Fatal(err)
	}
	all := fsfreeze.Filesystems(mounts)
	i := slices.IndexFunc(all, func(f fsfreeze.Filesystem) bool { return f.Dev == uint64(o.Vol.Dev) })
	if o.handle, err = fsfreeze.Open(all[i]); err == nil {
		err = o.handle.Freeze()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (o *Mounted) Thaw(t testing.TB) {
	t.Helper()
	if err := errors.Join(o.handle.Thaw(), o.handle.Close()); err != nil {
		t.Error(err)
	}
}

func (o *Mounted) Suspended(t testing.TB) bool {
	t.Helper()
	info, err := o.control.Info(dm.ByDev(o.Vol.Dev))
	if err != nil {
		t.Fatal(err)
	}
	return info.Suspended
}

func (o *Mounted) Suspend(t testing.TB) {
	t.Helper()
	if err := o.control.Suspend(dm.ByDev(o.Vol.Dev), 0); err != nil {
		t.Fatal(err)
	}
}

func (o *Mounted) Resume(t testing.TB) {
	t.Helper()
	if err := o.control.Resume(dm.ByDev(o.Vol.Dev), dm.SkipLockFS); err != nil {
		t.Fatal(err)
	}
}

// Check looks at the filesystem while nobody uses it; mounting it again shows that it can be.
func (o *Mounted) Check(t testing.TB) {
	t.Helper()
	before := o.Content(t)
	labtest.Run(t, "umount", o.Vol.MountPoint)
	check := map[string][]string{"ext4": {"e2fsck", "-fn"}, "xfs": {"xfs_repair", "-n"}}[o.Vol.FSType]
	labtest.Run(t, append(check, o.path())...)
	o.Mount(t)
	if after := o.Content(t); !maps.Equal(before, after) {
		t.Errorf("%s shows something else after it was mounted again", o.Vol.Name)
	}
}

// ContentOf is what the image of such a volume shows, mounted read-only beside its origin.
func ContentOf(t testing.TB, device string) (c Content) {
	t.Helper()
	with(t, device, unix.MS_RDONLY, map[string]string{"ext4": "noload", "xfs": "nouuid,norecovery"}, func(dir string) { c = read(t, dir) })
	return c
}

// WriteTo writes to a writable image.
func WriteTo(t testing.TB, device, key, value string) {
	t.Helper()
	with(t, device, 0, map[string]string{"xfs": "nouuid"}, func(dir string) { write(t, dir, key, value) })
}

// with mounts a device for a moment.
func with(t testing.TB, device string, flags uintptr, options map[string]string, do func(dir string)) {
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

func write(t testing.TB, dir, key, value string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, key))
	if err != nil {
		t.Error(err)
		return
	}
	_, err = f.WriteString(value)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Error(err)
	}
}

func read(t testing.TB, dir string) Content {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := Content{}
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
