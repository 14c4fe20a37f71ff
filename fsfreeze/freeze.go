package fsfreeze

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// include/uapi/linux/fs.h: _IOWR('X', 119, int) and _IOWR('X', 120, int). golang.org/x/sys has neither.
const (
	fifreeze = 0xC0045877
	fithaw   = 0xC0045878
)

var (
	// ErrFrozen: the filesystem was frozen by somebody else when we came. It is not ours to thaw.
	ErrFrozen = errors.New("somebody else has frozen it; it is theirs to thaw (fsfreeze -u)")
	// ErrThawed: somebody else thawed the filesystem while we held it: the hold did not last.
	ErrThawed = errors.New("somebody else thawed it during the hold")
	// ErrOvertaken: the guard, or the deadline, came first and releases it.
	ErrOvertaken = errors.New("the deadline passed first")
)

// freezable lists the filesystem types whose FIFREEZE does what it says: those with a freeze_fs or freeze_super
// operation of their own in fs/ of Linux 5.10 to 6.12. cifs is not among them: it answers success and freezes nothing.
var freezable = []string{"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "jfs", "nilfs2", "reiserfs", "gfs2", "bcachefs"}

// Freezable reports whether filesystems of this type can be frozen.
func Freezable(fstype string) bool { return slices.Contains(freezable, fstype) }

// Handle is a filesystem opened for freezing: a descriptor that pins the right superblock, and the cell that records
// the freeze. Freeze and Thaw belong to the freeze window: they make one system call each and allocate nothing unless
// they fail.
type Handle struct {
	FS     Filesystem
	fd     int
	cell   *Cell
	closed atomic.Bool
}

// Open opens a filesystem by the first of its mount points that still leads to it: a path that has been mounted over,
// or replaced since the mount table was read, is refused.
func Open(fs Filesystem) (*Handle, error) {
	var errs []error
	for _, m := range fs.Mounts {
		fd, err := openMount(m)
		if err == nil {
			return &Handle{FS: fs, fd: fd, cell: new(Cell)}, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("cannot open the filesystem at %s: %w", fs.Point(), errors.Join(errs...))
}

func openMount(m Mount) (int, error) {
	fd, err := unix.Open(m.Point, unix.O_RDONLY|unix.O_NOATIME|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, fmt.Errorf("cannot open %s: %w", m.Point, err)
	}
	var st unix.Statx_t
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st)
	switch {
	case err != nil:
		err = fmt.Errorf("cannot stat %s: %w", m.Point, err)
	case st.Mask&unix.STATX_MNT_ID != 0 && st.Mnt_id != uint64(m.ID): // Linux 5.8 and newer
		err = fmt.Errorf("another filesystem has been mounted over %s", m.Point)
	default:
		err = m.sameFilesystem(unix.Mkdev(st.Dev_major, st.Dev_minor))
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// sameFilesystem fails if what has been opened, a file of which has that device number, is not the filesystem that the
// mount table had there: the kernel gives the number of a mount that is gone to the next one. The descriptor keeps it
// from doing so again.
func (m Mount) sameFilesystem(dev uint64) error {
	if dev == m.Dev {
		return nil
	}
	// The files of a btrfs have numbers of their own. What the mount table says now of the mount is said of what is open.
	mounts, err := MountTable()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(mounts, func(now Mount) bool { return now.ID == m.ID })
	if i < 0 || mounts[i].Dev != m.Dev || m.FSType != mounts[i].FSType {
		return fmt.Errorf("another filesystem has been mounted at %s in its place", m.Point)
	}
	return nil
}

// Point is the mount point by which the filesystem is called.
func (h *Handle) Point() string { return h.FS.Point() }

// Fd is the descriptor, for the guard.
func (h *Handle) Fd() int { return h.fd }

// Share makes the handle record its freeze in c, which the guard sees too. Only before Freeze.
func (h *Handle) Share(c *Cell) { h.cell = c }

// Close closes the descriptor. It does not thaw: a handle whose freeze is stuck in the kernel keeps its descriptor,
// because whoever releases it needs it, and is closed by another Close when it is released. To close twice is no error.
func (h *Handle) Close() error {
	if s := h.cell.State(); s != Idle && s != Released || !h.closed.CompareAndSwap(false, true) {
		return nil
	}
	return unix.Close(h.fd)
}

// Sync writes out what is dirty (syncfs(2)), so that the freeze has little left to write. It also reports write errors
// that happened since the filesystem was opened here.
func (h *Handle) Sync() error {
	if err := unix.Syncfs(h.fd); err != nil {
		return fmt.Errorf("cannot write out %s: %w", h.FS.Point(), err)
	}
	return nil
}

// Freeze freezes the filesystem. It cannot be interrupted. A freeze that completes after the deadline is left to
// whoever overtook it, and reported as ErrOvertaken.
func (h *Handle) Freeze() error {
	if !h.cell.Begin() {
		return &Error{"freeze", h.FS.Point(), ErrOvertaken}
	}
	err := Freeze(h.fd)
	ours := h.cell.Took(err == nil)
	switch {
	case err == unix.EBUSY:
		return &Error{"freeze", h.FS.Point(), fmt.Errorf("%w: %w", err, ErrFrozen)}
	case err != nil:
		return &Error{"freeze", h.FS.Point(), err}
	case !ours:
		return &Error{"freeze", h.FS.Point(), ErrOvertaken}
	}
	return nil
}

// Thaw releases our own freeze, once. A filesystem that was never frozen by us, or that somebody else has been
// charged with thawing, is left alone. ErrThawed means that it was no longer frozen.
func (h *Handle) Thaw() error {
	if !h.cell.Claim() {
		return nil
	}
	err := Thaw(h.fd)
	if err != nil && !errors.Is(err, unix.EINVAL) {
		h.cell.Unclaim()
		return &Error{"thaw", h.FS.Point(), err}
	}
	h.cell.Done()
	if err != nil {
		return &Error{"thaw", h.FS.Point(), fmt.Errorf("%w: %w", err, ErrThawed)}
	}
	return nil
}

// Held reports whether we hold the filesystem frozen, as far as we know: the kernel cannot be asked.
func (h *Handle) Held() bool { return h.cell.Held() }

// Freeze issues one FIFREEZE. Only the caller knows of it: whoever freezes so has to thaw, whatever happens.
func Freeze(fd int) error { return ioctl(fd, fifreeze) }

// Thaw issues one FITHAW. EINVAL means that the filesystem was not frozen (or not yet: the freeze is in progress).
func Thaw(fd int) error { return ioctl(fd, fithaw) }

func ioctl(fd int, req uintptr) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, 0)
		switch errno {
		case 0:
			return nil
		case unix.EINTR: // the runtime's own preemption signals
			continue
		}
		return errno
	}
}

// Error is a freeze or thaw that failed; Err keeps the errno.
type Error struct {
	Op, Point string
	Err       error
}

func (e *Error) Error() string { return "cannot " + e.Op + " " + e.Point + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }
