//go:build lab

package fsfreeze_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/lab/labtest"
)

// format makes a filesystem on the n-th disk and mounts it at /srv/fz-n.
func format(t *testing.T, n int, fstype string) (point string) {
	t.Helper()
	disk := labtest.Disks(t)[n]
	labtest.Run(t, "wipefs", "-aq", disk)
	labtest.Run(t, "mkfs."+fstype, "-q", disk)
	t.Cleanup(func() { labtest.Run(t, "wipefs", "-aq", disk) })
	return mount(t, disk, "fz-"+string(rune('0'+n)), fstype, "")
}

// mount mounts a device at /srv/NAME until the test is over.
func mount(t *testing.T, device, name, fstype, options string) (point string) {
	t.Helper()
	point = filepath.Join("/srv", name)
	if err := os.MkdirAll(point, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(device, point, fstype, 0, options); err != nil {
		t.Fatalf("cannot mount %s: %v", device, err)
	}
	t.Cleanup(func() { labtest.Run(t, "umount", point) })
	return point
}

// filesystem is the one that is mounted at a point.
func filesystem(t *testing.T, point string) fsfreeze.Filesystem {
	t.Helper()
	mounts, err := fsfreeze.Mounts()
	if err != nil {
		t.Fatal(err)
	}
	m, ok := fsfreeze.At(mounts, point)
	if !ok {
		t.Fatalf("nothing is mounted at %s", point)
	}
	all := fsfreeze.Filesystems(mounts)
	return all[slices.IndexFunc(all, func(f fsfreeze.Filesystem) bool { return f.Dev == m.Dev })]
}

func open(t *testing.T, point string) *fsfreeze.Handle {
	t.Helper()
	h, err := fsfreeze.Open(filesystem(t, point))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(h.Thaw(), h.Close()); err != nil && !errors.Is(err, fsfreeze.ErrThawed) {
			t.Error(err)
		}
	})
	return h
}

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write begins to write to a filesystem; the channel tells when it has come through.
func write(t *testing.T, point string) <-chan error {
	done := make(chan error, 1)
	go func() {
		f, err := os.OpenFile(filepath.Join(point, "file"), os.O_CREATE|os.O_WRONLY|os.O_SYNC, 0o644)
		if err == nil {
			_, err = f.WriteString("x")
			err = errors.Join(err, f.Close())
		}
		done <- err
	}()
	return done
}

// through fails the test unless a write comes through in time.
func through(t *testing.T, what string, w <-chan error) {
	t.Helper()
	select {
	case err := <-w:
		do(t, err)
	case <-time.After(5 * time.Second):
		t.Fatalf("%s: the write does not come through", what)
	}
}

// waits fails the test if a write comes through.
func waits(t *testing.T, what string, w <-chan error) {
	t.Helper()
	select {
	case err := <-w:
		t.Fatalf("%s: the write came through (%v)", what, err)
	case <-time.After(200 * time.Millisecond):
	}
}

func TestFreeze(t *testing.T) {
	for _, fstype := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fstype, func(t *testing.T) {
			labtest.CheckClean(t)
			point := format(t, 0, fstype)
			if f := filesystem(t, point); f.Type != fstype || !fsfreeze.Freezable(f.Type) {
				t.Fatalf("got %+v", f)
			}
			h, other := open(t, point), open(t, point)
			through(t, "before", write(t, point))
			do(t, h.Sync())
			do(t, h.Freeze())
			if !h.Held() {
				t.Error("not held")
			}
			w := write(t, point)
			waits(t, "frozen", w)
			if _, err := os.ReadFile(filepath.Join(point, "file")); err != nil {
				t.Errorf("reading while frozen: %v", err)
			}

			// Who comes second is told so, and thaws nothing.
			if err := other.Freeze(); !errors.Is(err, fsfreeze.ErrFrozen) || !errors.Is(err, unix.EBUSY) || other.Held() {
				t.Errorf("frozen twice: %v", err)
			}
			do(t, other.Thaw())
			waits(t, "after the other's thaw", w)
			do(t, h.Close()) // keeps its descriptor: it is still needed
			do(t, h.Thaw())
			through(t, "thawed", w)
			do(t, h.Thaw()) // once is enough
			if h.Held() {
				t.Error("still held")
			}
		})
		t.Run(fstype+" thawed by somebody else", func(t *testing.T) {
			labtest.CheckClean(t)
			point := format(t, 0, fstype)
			h := open(t, point)
			do(t, h.Freeze())
			labtest.Run(t, "fsfreeze", "-u", point)
			through(t, "thawed by somebody else", write(t, point))
			labtest.Run(t, "fsfreeze", "-f", point) // and frozen again, by somebody else: not to be told apart
			labtest.Run(t, "fsfreeze", "-u", point)
			if err := h.Thaw(); !errors.Is(err, fsfreeze.ErrThawed) || !errors.Is(err, unix.EINVAL) {
				t.Errorf("got %v", err)
			}
			do(t, h.Thaw())
		})
		t.Run(fstype+" can be mounted again", func(t *testing.T) {
			labtest.CheckClean(t)
			point := format(t, 0, fstype)
			for range 2 {
				h, err := fsfreeze.Open(filesystem(t, point))
				do(t, err)
				do(t, h.Freeze())
				do(t, h.Thaw())
				do(t, h.Close())
				labtest.Run(t, "umount", point)
				do(t, unix.Mount(labtest.Disks(t)[0], point, fstype, 0, ""))
				through(t, "mounted again", write(t, point))
			}
		})
	}
}

// A filesystem with several mount points is one, and any of them will do.
func TestBindMounts(t *testing.T) {
	labtest.CheckClean(t)
	point := format(t, 0, "ext4")
	inside := filepath.Join(point, "inside")
	do(t, os.Mkdir(inside, 0o755))
	bind := "/srv/fz-bind"
	do(t, os.MkdirAll(bind, 0o755))
	do(t, unix.Mount(inside, bind, "", unix.MS_BIND, ""))
	t.Cleanup(func() { labtest.Run(t, "umount", bind) })
	f := filesystem(t, bind)
	if len(f.Mounts) != 2 || f.Point() != point || f.Mounts[1].Root != "/inside" {
		t.Errorf("got %+v", f)
	}
	h := open(t, bind)
	do(t, h.Freeze())
	w := write(t, bind)
	waits(t, "through the bind mount", w)
	do(t, h.Thaw())
	through(t, "thawed", w)
}

// Subvolumes of one btrfs have different st_dev, and are one filesystem all the same.
func TestSubvolumes(t *testing.T) {
	labtest.CheckClean(t)
	point := format(t, 0, "btrfs")
	labtest.Run(t, "btrfs", "subvolume", "create", filepath.Join(point, "sub"))
	sub := mount(t, labtest.Disks(t)[0], "fz-sub", "btrfs", "subvol=sub")
	if f := filesystem(t, sub); len(f.Mounts) != 2 {
		t.Errorf("got %+v", f)
	}
	h := open(t, sub)
	do(t, h.Freeze())
	w := write(t, point)
	waits(t, "frozen by its subvolume", w)
	do(t, h.Thaw())
	through(t, "thawed", w)
}

// A mount point that leads elsewhere by now is not believed.
func TestOverMounted(t *testing.T) {
	labtest.CheckClean(t)
	point := format(t, 0, "ext4")
	f := filesystem(t, point)
	do(t, unix.Mount("tmpfs", point, "tmpfs", 0, ""))
	over := true
	t.Cleanup(func() {
		if over {
			labtest.Run(t, "umount", point)
		}
	})
	if h, err := fsfreeze.Open(f); err == nil {
		t.Errorf("opened the tmpfs that covers it: %v", h.Close())
	} else if !strings.Contains(err.Error(), "mounted over") {
		t.Errorf("got %v", err)
	}
	second := mount(t, labtest.Disks(t)[0], "fz-second", "ext4", "")
	h := open(t, second) // by the mount point that still leads there
	do(t, h.Freeze())
	do(t, h.Thaw())
	labtest.Run(t, "umount", point)
	over = false
}

// A filesystem that took another's place, and its mount's number with it, is not frozen in its stead.
func TestReplacedMount(t *testing.T) {
	labtest.CheckClean(t)
	point := format(t, 0, "ext4")
	was := filesystem(t, point)
	labtest.Run(t, "umount", point)
	disk := labtest.Disks(t)[1]
	labtest.Run(t, "wipefs", "-aq", disk)
	t.Cleanup(func() { labtest.Run(t, "wipefs", "-aq", disk) })
	for _, fstype := range []string{"ext4", "btrfs"} {
		labtest.Run(t, "mkfs."+fstype, "-q", disk)
		if err := unix.Mount(disk, point, fstype, 0, ""); err != nil {
			t.Fatal(err)
		}
		now := filesystem(t, point)
		if now.Mounts[0].ID != was.Mounts[0].ID {
			t.Logf("the kernel took another number for the mount of %s: %d, not %d", fstype, now.Mounts[0].ID, was.Mounts[0].ID)
		}
		if h, err := fsfreeze.Open(was); err == nil {
			t.Errorf("%s was taken for what was mounted there before", fstype)
			h.Close()
		}
		h, err := fsfreeze.Open(now)
		if err != nil {
			t.Error(err)
		} else if err := h.Close(); err != nil {
			t.Error(err)
		}
		labtest.Run(t, "umount", point)
		labtest.Run(t, "wipefs", "-aq", disk)
	}
	if err := unix.Mount(labtest.Disks(t)[0], point, "ext4", 0, ""); err != nil { // for format's own clean-up
		t.Fatal(err)
	}
}

func TestReadOnly(t *testing.T) {
	labtest.CheckClean(t)
	point := format(t, 0, "ext4")
	do(t, unix.Mount("", point, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	if f := filesystem(t, point); !f.ReadOnly {
		t.Errorf("got %+v", f)
	}
	h := open(t, point)
	do(t, h.Freeze())
	if err := unix.Mount("", point, "", unix.MS_REMOUNT, ""); !errors.Is(err, unix.EBUSY) {
		t.Errorf("made writable while frozen: %v", err)
	}
	do(t, h.Thaw())
	do(t, unix.Mount("", point, "", unix.MS_REMOUNT, ""))
	through(t, "writable again", write(t, point))
}

// What cannot be frozen says so.
func TestNotFreezable(t *testing.T) {
	labtest.CheckClean(t)
	point := mount(t, "tmpfs", "fz-tmpfs", "tmpfs", "")
	if f := filesystem(t, point); fsfreeze.Freezable(f.Type) {
		t.Errorf("got %+v", f)
	}
	if err := open(t, point).Freeze(); !errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, fsfreeze.ErrFrozen) {
		t.Errorf("got %v", err)
	}
}

// image makes a filesystem in a file on another one, and mounts it.
func image(t *testing.T, on string) (point string) {
	t.Helper()
	file := filepath.Join(on, "disk.img")
	labtest.Run(t, "truncate", "-s", "64M", file)
	labtest.Run(t, "mkfs.ext4", "-q", file)
	loop := strings.TrimSpace(labtest.Run(t, "losetup", "--find", "--show", file))
	t.Cleanup(func() { labtest.Run(t, "losetup", "-d", loop) })
	return mount(t, loop, "fz-img", "ext4", "")
}

// order is the order of freezing that the kernel's own tables give.
func order(t *testing.T, points ...string) string {
	t.Helper()
	var set []fsfreeze.Filesystem
	for _, p := range points {
		set = append(set, filesystem(t, p))
	}
	mounts, err := fsfreeze.Mounts()
	do(t, err)
	layers, err := fsfreeze.Layers(set, mounts, func(dev uint64) (fsfreeze.Device, error) {
		return fsfreeze.Stack(os.DirFS("/sys"), dev)
	})
	do(t, err)
	var levels []string
	for _, l := range fsfreeze.Order(layers) {
		var names []string
		for _, f := range l {
			names = append(names, f.Point())
		}
		levels = append(levels, strings.Join(names, " "))
	}
	return strings.Join(levels, " | ")
}

// A filesystem in a file is frozen before the one that holds the file, and thawed after it.
func TestLoopOrder(t *testing.T) {
	labtest.CheckClean(t)
	below, aside := format(t, 0, "ext4"), format(t, 1, "xfs")
	img := image(t, below)
	if got, want := order(t, below, aside, img), aside+" "+img+" | "+below; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	top, bottom := open(t, img), open(t, below)
	w := write(t, img)
	through(t, "before", w)
	do(t, top.Freeze())
	do(t, bottom.Freeze())
	w = write(t, img)
	waits(t, "frozen", w)
	do(t, bottom.Thaw())
	do(t, top.Thaw())
	through(t, "thawed", w)
}

// The wrong order hangs in the kernel. Whoever releases such a freeze waits for it, and thaws it when it is there.
func TestFreezeThatHangs(t *testing.T) {
	labtest.CheckClean(t)
	below := format(t, 0, "ext4")
	img := image(t, below)
	through(t, "before", write(t, img)) // something to flush
	top, bottom := open(t, img), open(t, below)
	cell := new(fsfreeze.Cell)
	top.Share(cell)
	do(t, bottom.Freeze())
	frozen := make(chan error, 1)
	go func() { frozen <- top.Freeze() }()
	waits(t, "a freeze over a frozen file", frozen)
	if s := cell.State(); s != fsfreeze.Taking {
		t.Errorf("the cell is %v", s)
	}
	// Release's own FITHAW answers EINVAL, or waits in the kernel for the freeze, depending on how far that has come.
	released := make(chan error, 1)
	go func() {
		_, err := fsfreeze.Release(cell, func() error { return fsfreeze.Thaw(top.Fd()) }, time.Minute, nil)
		released <- err
	}()
	waits(t, "released before it was frozen", released)
	do(t, top.Close()) // keeps the descriptor that Release uses
	do(t, bottom.Thaw())
	through(t, "Release", released)
	if err := <-frozen; !errors.Is(err, fsfreeze.ErrOvertaken) {
		t.Errorf("a freeze that came too late: %v", err)
	}
	if s := cell.State(); s != fsfreeze.Released {
		t.Errorf("the cell is %v", s)
	}
	through(t, "released", write(t, img))
	if err := top.Freeze(); !errors.Is(err, fsfreeze.ErrOvertaken) {
		t.Errorf("frozen after the release: %v", err)
	}
}
