package provider

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/config/ownership"
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/loop"
	"github.com/fermata-project/fermata/fsfreeze"
)

// directory is a storage volume whose areas are files that root alone can write to, each with its record beside it.
type directory struct{ path string }

const areaEnd = ".fermata.cow"

// head is left empty at the beginning of a file, in bytes: the first chunk that is kept may be the origin's superblock, and
// must not make the loop device look like a copy of the origin.
const head = 1 << 20

func (d directory) String() string  { return d.path }
func (d directory) records() string { return d.path }

func (d directory) usable() error {
	if err := ownership.Directory(d.path); err != nil {
		return fmt.Errorf("cannot use the storage volume %s: %w", d.path, err)
	}
	_, _, err := d.space()
	return err
}

func (d directory) space() (size, free uint64, err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(d.path, &fs); err != nil {
		return 0, 0, fmt.Errorf("cannot use the storage volume %s: %w", d.path, err)
	}
	if fs.Flags&unix.ST_RDONLY != 0 {
		err = fmt.Errorf("%w: the storage volume %s is mounted read-only (dmesg may tell why)", ErrPool, d.path)
	}
	unit := uint64(fs.Bsize)
	return fs.Blocks * unit, fs.Bavail * unit, err
}

func (directory) cost(area uint64) uint64 { return head + area }

// suits any volume: loop devices can have any size of sectors.
func (directory) suits(Volume) error { return nil }

func (d directory) below(visit func(dev uint64) bool) error {
	mounts, err := fsfreeze.Mounts()
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(d.path)
	if err != nil {
		return err
	}
	return belowPath(real, mounts, visit)
}

// area is the path of an area's file without symbolic links: the kernel tells a loop device's file by such a path.
func (d directory) area(name string) string {
	dir, err := filepath.EvalSymlinks(d.path)
	if err != nil {
		dir = d.path
	}
	return filepath.Join(dir, name+areaEnd)
}

// allot makes the file and its loop device. All space is allocated now: a storage volume that is full tomorrow breaks no
// snapshot.
func (d directory) allot(r record) ([]dm.Target, error) {
	f, err := os.OpenFile(d.area(r.Name), os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot make the copy-on-write area: %w", err)
	}
	defer f.Close()
	if err := allocate(f, head+r.COW); err != nil {
		return nil, err
	}
	// The file's data stay in it, and nothing of them in memory.
	device, err := loop.Attach(f, loop.Options{DirectIO: true, BlockSize: blockSize(r.origin())})
	if err != nil {
		return nil, err
	}
	return afterHead(device, r.COW)
}

func (d directory) extend(name string, _ []dm.Target, size uint64) ([]dm.Target, error) {
	path := d.area(name)
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := allocate(f, head+size); err != nil {
		return nil, err
	}
	devices, err := loop.Of(os.DirFS("/sys"), path)
	if err != nil || len(devices) != 1 {
		return nil, errors.Join(err, fmt.Errorf("%s has %d loop devices", f.Name(), len(devices)))
	}
	if err := loop.Grow(devices[0]); err != nil {
		return nil, err
	}
	return afterHead(devices[0], size)
}

func (d directory) free(name string) error {
	path := d.area(name)
	devices, err := loop.Of(os.DirFS("/sys"), path)
	if err != nil {
		return err
	}
	for _, device := range devices {
		if err := loop.Detach(device); err != nil {
			return err
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot remove the copy-on-write area: %w", err)
	}
	return nil
}

// afterHead is the table of an area on a loop device.
func afterHead(device string, size uint64) ([]dm.Target, error) {
	var st unix.Stat_t
	err := unix.Stat(device, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFBLK {
		err = unix.ENOTBLK
	}
	if err != nil {
		return nil, fmt.Errorf("cannot use %s as a copy-on-write area: %w", device, err)
	}
	return []dm.Target{{Length: size / 512, Type: "linear", Params: dm.LinearTable{Dest: dm.Dev(st.Rdev), Offset: head / 512}.String()}}, nil
}

func allocate(f *os.File, size uint64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, int64(size))
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("cannot allocate %s: %w: its filesystem cannot reserve space (ext4, XFS and btrfs can)", f.Name(), err)
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("cannot allocate %s for %s: %w (%w)", mebibytes(size), f.Name(), ErrNoRoom, err)
	case err != nil:
		return fmt.Errorf("cannot allocate %s: %w", f.Name(), err)
	}
	if err := f.Sync(); err != nil { // what is frozen later must not find it dirty
		return fmt.Errorf("cannot write %s: %w", f.Name(), err)
	}
	return nil
}
