package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/fsfreeze/guard"
	"github.com/fermata-project/fermata/hooks/child"
)

// Host is what the daemon asks of the operating system. System is the real one; tests bring their own.
type Host interface {
	Mounts() ([]fsfreeze.Mount, error)
	// BlockDevice is the device number that a path names; ok is false if it names no block device.
	BlockDevice(path string) (dev uint64, ok bool, err error)
	// BlockDevices lists all of the host, by number.
	BlockDevices() ([]uint64, error)
	Stack(dev uint64) (fsfreeze.Device, error)
	// Devices are the block devices that hold a filesystem: see fsfreeze.Filesystem.
	Devices(f fsfreeze.Filesystem) ([]uint64, error)
	// Targets are the target types of a device-mapper device's table, in its order.
	Targets(dev uint64) ([]string, error)
	// Used is how many bytes the filesystem that is mounted there uses.
	Used(point string) (uint64, error)
	// Free is how many bytes the filesystem of a path still has room for.
	Free(path string) (uint64, error)
	Open(fsfreeze.Filesystem) (Filesystem, error)
	// OpenDevice opens a block device to write out what the kernel has cached of it.
	OpenDevice(dev uint64) (Syncer, error)
	OpenCounter(dev uint64) (Counter, error)
	// Arm hands filesystems and devices to the guard.
	Arm(ctx context.Context, set string, deadline time.Duration, fss []Filesystem, devices []uint64) (Guard, error)
	// LockMemory keeps the daemon from being paged in or out; the function that it returns ends it.
	LockMemory() (unlock func() error, err error)
	Mount(m MountCall) error
	Unmount(path string) error
	// RenewID gives the btrfs on an unmounted device an id of its own.
	RenewID(ctx context.Context, device string) error
	// CheckFilesystem looks, without changing it, whether the filesystem that is the only one on a stage is sound, after its
	// journal was replayed.
	CheckFilesystem(ctx context.Context, s *child.Stage) error
	// Started is when a process began, in the kernel's ticks since it booted; 0 if it has ended.
	Started(pid int) (uint64, error)
	// GuardPaths are where the guard listens, and where it says what it released.
	GuardPaths() (socket, notes string)
	// Rescue releases what a dead daemon and its dead guard may have left: see recover.go. settled: nothing can be on its way
	// to being frozen any more.
	Rescue(h held, settled bool) ([]string, error)
}

// Syncer is something opened that can have dirty data in memory.
type Syncer interface {
	Sync() error
	Close() error
}

// Filesystem is a filesystem opened for freezing; *fsfreeze.Handle is the real one.
type Filesystem interface {
	Point() string
	Sync() error
	Freeze() error
	Thaw() error
	Close() error
}

// Counter tells how many writes a device has seen.
type Counter interface {
	Read() (dm.Writes, error)
	Close() error
}

// Guard is an armed hold; *guard.Armed is the real one.
type Guard interface {
	DeviceCell(i int) *fsfreeze.Cell
	Fired() bool
	// Expire releases what the guard has not: it may be dead. It waits for that, but not longer than limit, unless that is negative.
	Expire(limit time.Duration)
	Close() (guard.Reason, guard.Report, error)
}

// MountCall is one mount(2).
type MountCall struct {
	Device, Path, FSType, Options string
	ReadOnly                      bool
}

// System is the operating system that the daemon runs on.
type System struct {
	Socket, Notes string
	Control       *dm.Control
}

func (s System) GuardPaths() (socket, notes string) { return s.Socket, s.Notes }

var sysfs = os.DirFS("/sys")

func (System) Mounts() ([]fsfreeze.Mount, error) { return fsfreeze.Mounts() }

func (System) BlockDevice(path string) (uint64, bool, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, false, err
	}
	return st.Rdev, st.Mode&unix.S_IFMT == unix.S_IFBLK, nil
}

func (System) BlockDevices() ([]uint64, error) {
	entries, err := fs.ReadDir(sysfs, "dev/block")
	if err != nil {
		return nil, fmt.Errorf("cannot list the block devices: %w", err)
	}
	var devs []uint64
	for _, e := range entries {
		var major, minor uint32
		if _, err := fmt.Sscanf(e.Name(), "%d:%d", &major, &minor); err == nil {
			devs = append(devs, unix.Mkdev(major, minor))
		}
	}
	return devs, nil
}

func (System) Stack(dev uint64) (fsfreeze.Device, error) { return fsfreeze.Stack(sysfs, dev) }

func (System) Devices(f fsfreeze.Filesystem) ([]uint64, error) { return f.BlockDevices() }

// Targets asks for the status, not the table: a table of dm-crypt holds its key.
func (s System) Targets(dev uint64) ([]string, error) {
	targets, _, err := s.Control.Status(dm.ByDev(dm.Dev(dev)), dm.StatusNoFlush)
	if err != nil {
		return nil, err
	}
	var types []string
	for _, t := range targets {
		types = append(types, t.Type)
	}
	return types, nil
}

func (System) Free(path string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, fmt.Errorf("cannot ask %s for its space: %w", path, err)
	}
	return st.Bavail * uint64(st.Frsize), nil
}

func (System) Used(point string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(point, &st); err != nil {
		return 0, fmt.Errorf("cannot see how much of %s is used: %w", point, err)
	}
	return (st.Blocks - st.Bfree) * uint64(st.Frsize), nil
}

func (System) Open(f fsfreeze.Filesystem) (Filesystem, error) {
	h, err := fsfreeze.Open(f)
	if err != nil {
		return nil, err
	}
	return h, nil
}

func (System) OpenDevice(dev uint64) (Syncer, error) {
	d, err := fsfreeze.OpenDevice(sysfs, dev)
	if err != nil {
		return nil, err
	}
	return d, nil
}

func (System) OpenCounter(dev uint64) (Counter, error) {
	c, err := dm.OpenWriteCounter(unix.Major(dev), unix.Minor(dev))
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (s System) Arm(ctx context.Context, set string, deadline time.Duration, fss []Filesystem, devices []uint64) (Guard, error) {
	handles := make([]*fsfreeze.Handle, len(fss))
	for i, f := range fss {
		h, ok := f.(*fsfreeze.Handle)
		if !ok {
			return nil, errors.New("internal error: the guard takes real filesystems only")
		}
		handles[i] = h
	}
	resume := func(dev uint64) func() error { return s.Control.PrepareRelease(dm.Dev(dev)) }
	a, err := guard.Arm(ctx, s.Socket, set, deadline, handles, devices, resume)
	if err != nil {
		return nil, err
	}
	return a, nil
}

func (System) LockMemory() (func() error, error) {
	return fsfreeze.LockMemory()
}

// Started reads field 22 of the process's stat (proc(5)), behind its name, which may hold anything.
func (System) Started(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("cannot tell when process %d began: %q", pid, text)
	}
	if fields[0] == "Z" || fields[0] == "X" { // nobody has asked how it ended
		return 0, nil
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

func (System) Mount(m MountCall) error {
	var flags uintptr = unix.MS_NODEV | unix.MS_NOSUID
	if m.ReadOnly {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount(m.Device, m.Path, m.FSType, flags, m.Options); err != nil {
		return fmt.Errorf("cannot mount %s at %s: %w", m.Device, m.Path, err)
	}
	return nil
}

func (System) Unmount(path string) error {
	if err := whileBusy(time.Second, func() error { return unix.Unmount(path, unix.UMOUNT_NOFOLLOW) }); err != nil {
		if errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("cannot unmount %s: %w (see which process uses it: fuser -vm %s)", path, err, path)
		}
		return fmt.Errorf("cannot unmount %s: %w", path, err)
	}
	return nil
}

// whileBusy tries again for a time: who only looks at a filesystem, with statfs(2) perhaps, uses it for a moment.
func whileBusy(limit time.Duration, try func() error) error {
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		if err := try(); !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			return err
		}
	}
}
