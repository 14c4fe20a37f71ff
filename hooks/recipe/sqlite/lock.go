package sqlite

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Where SQLite puts its locks (sqlite.org/lockingv3.html and os_unix.c; the
// offsets are part of the file format, since all programs must agree on them).
const (
	pendingByte  = 0x40000000
	reservedByte = pendingByte + 1
	sharedFirst  = pendingByte + 2
	sharedSize   = 510
	// In the -shm file: write, checkpoint and recovery lock (sqlite.org/walformat.html, 2.3).
	walWriteByte = 120
	walBytes     = 3
)

// errBusy says that somebody else has a lock. It is worth another try.
var errBusy = errors.New("another program has it locked")

// lock takes a lock on a range of a file, or gives it back, without waiting. The
// lock belongs to the open file (F_OFD_SETLK): it ends when that is closed, also by
// the death of this process, and not, as classic POSIX locks do, when this
// process closes the same file elsewhere. Classic ones, as SQLite takes them,
// respect it.
func lock(f *os.File, kind int16, start, length int64) error {
	l := unix.Flock_t{Type: kind, Whence: unix.SEEK_SET, Start: start, Len: length}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return errBusy
	}
	if err != nil {
		return fmt.Errorf("cannot lock %s: %w", f.Name(), err)
	}
	return nil
}

// locked says whether somebody else keeps a range of a file from being locked for
// writing.
func locked(f *os.File, start, length int64) (bool, error) {
	l := unix.Flock_t{Type: unix.F_WRLCK, Whence: unix.SEEK_SET, Start: start, Len: length}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l); err != nil {
		return false, fmt.Errorf("cannot see the locks of %s: %w", f.Name(), err)
	}
	return l.Type != unix.F_UNLCK, nil
}

// share takes the SHARED lock as SQLite does: by way of PENDING, so that one who
// waits for EXCLUSIVE gets it first.
func share(f *os.File) error {
	if err := lock(f, unix.F_RDLCK, pendingByte, 1); err != nil {
		return err
	}
	return errors.Join(lock(f, unix.F_RDLCK, sharedFirst, sharedSize), lock(f, unix.F_UNLCK, pendingByte, 1))
}

// reserve makes SHARED RESERVED: nobody else can begin to write.
func reserve(f *os.File) error { return lock(f, unix.F_WRLCK, reservedByte, 1) }

// exclude makes SHARED EXCLUSIVE: nobody else can even read.
func exclude(f *os.File) error {
	if err := lock(f, unix.F_WRLCK, pendingByte, 1); err != nil {
		return err
	}
	return lock(f, unix.F_WRLCK, sharedFirst, sharedSize)
}

// lockLog takes the locks of a write-ahead log for writing, checkpoint and
// recovery, by its -shm file.
func lockLog(shm *os.File) error { return lock(shm, unix.F_WRLCK, walWriteByte, walBytes) }
