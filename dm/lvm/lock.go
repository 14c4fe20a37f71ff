package lvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Lock is LVM's write lock of one volume group, held by us: no lvm command changes the group, or reads it, until Unlock.
// An lvm command of ours would wait for it too.
//
// It is taken as LVM takes it (lib/locking/file_locking.c, lib/misc/lvm-flock.c): a file V_<vg> under flock(LOCK_EX); a
// writer first takes V_<vg>:aux, which every reader takes for a moment, so that readers cannot starve it. Who releases
// the lock unlinks its file; so after flock has succeeded, the file at the path must still be the one that is locked.
//
// Within one LVM the lock is shared: two providers of one set can each lock the group that both have volumes in, and the
// last Unlock releases it. Nothing else is excluded by it than other processes.
type Lock struct {
	group  *sharedLock
	unlock sync.Once
}

// sharedLock is the lock of one volume group, and how many Locks share it.
type sharedLock struct {
	turn    chan struct{} // who has the token may look at the rest; nobody keeps it for long while there are holders
	file    *lockFile
	holders int
}

// sharedLocks are the locks of an LVM, by the volume group's name.
type sharedLocks struct{ all sync.Map }

func (g *sharedLocks) of(vg string) *sharedLock {
	fresh := &sharedLock{turn: make(chan struct{}, 1)}
	x, _ := g.all.LoadOrStore(vg, fresh)
	return x.(*sharedLock)
}

// lockPause is how long to wait between tries: flock with a time limit does not exist, and a blocking one would leave a
// thread behind.
const lockPause = 5 * time.Millisecond

// LockVG takes the write lock of a volume group, and waits for it until ctx ends.
func (l *LVM) LockVG(ctx context.Context, vg string) (*Lock, error) {
	if err := CheckName(vg); err != nil {
		return nil, fmt.Errorf("cannot lock volume group: %w", err)
	}
	g := l.locks.of(vg)
	if err := g.join(ctx, func() (*lockFile, error) { return l.lockVG(ctx, vg) }); err != nil {
		return nil, fmt.Errorf("cannot lock volume group %s: %w", vg, err)
	}
	return &Lock{group: g}, nil
}

// join adds a holder; the first one takes the lock.
func (g *sharedLock) join(ctx context.Context, lock func() (*lockFile, error)) error {
	select {
	case g.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-g.turn }()
	if g.holders == 0 {
		var err error
		if g.file, err = lock(); err != nil {
			return err
		}
	}
	g.holders++
	return nil
}

// leave takes a holder away; the last one releases the lock.
func (g *sharedLock) leave() error {
	g.turn <- struct{}{}
	defer func() { <-g.turn }()
	if g.holders--; g.holders > 0 {
		return nil
	}
	return g.file.release()
}

func (l *LVM) lockVG(ctx context.Context, vg string) (*lockFile, error) {
	if err := os.MkdirAll(l.lockDir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(l.lockDir, "V_"+vg)
	aux, err := lockPath(ctx, path+":aux")
	if err != nil {
		return nil, err
	}
	file, err := lockPath(ctx, path)
	if err := errors.Join(err, aux.release()); err != nil {
		if file != nil {
			err = errors.Join(err, file.release())
		}
		return nil, err
	}
	return file, nil
}

// Unlock gives the lock up. The last one writes to the lock's directory, which is a tmpfs;
// it neither blocks nor runs anything.
// Calling it again does nothing.
func (k *Lock) Unlock() error {
	var err error
	k.unlock.Do(func() { err = k.group.leave() })
	if err != nil {
		return fmt.Errorf("cannot unlock volume group: %w", err)
	}
	return nil
}

type lockFile struct {
	path string
	fd   int
}

// lockPath takes the exclusive lock of a file, trying until ctx ends.
func lockPath(ctx context.Context, path string) (*lockFile, error) {
	for {
		f, err := tryLock(path)
		if f != nil || err != nil {
			return f, err
		}
		select {
		case <-time.After(lockPause):
		case <-ctx.Done():
			return nil, fmt.Errorf("an lvm command holds %s: %w", path, context.Cause(ctx))
		}
	}
}

// tryLock returns nil without an error if somebody else has the lock, or has just unlinked its file.
func tryLock(path string) (*lockFile, error) {
	f, err := openLock(path)
	if err != nil {
		return nil, err
	}
	locked, err := f.acquire()
	if err != nil || !locked {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

func openLock(path string) (*lockFile, error) {
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_APPEND|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return &lockFile{path: path, fd: fd}, nil
}

// acquire tells whether f has the lock, and is still the file that everybody else will open.
func (f *lockFile) acquire() (bool, error) {
	switch err := flock(f.fd, unix.LOCK_EX|unix.LOCK_NB); err {
	case nil:
		return f.current(), nil
	case unix.EWOULDBLOCK:
		return false, nil
	default:
		return false, &os.PathError{Op: "flock", Path: f.path, Err: err}
	}
}

func flock(fd, how int) error {
	for {
		if err := unix.Flock(fd, how); err != unix.EINTR {
			return err
		}
	}
}

// current tells whether the file at the path is the one that is open.
func (f *lockFile) current() bool {
	var at, open unix.Stat_t
	return unix.Stat(f.path, &at) == nil && unix.Fstat(f.fd, &open) == nil && at.Dev == open.Dev && at.Ino == open.Ino
}

// release unlinks the file while the lock is still held, as _undo_flock does, and closes it: whoever waits for the lock
// of the unlinked file sees that it is not current, and opens anew.
func (f *lockFile) release() error {
	var err error
	if f.current() {
		if err = unix.Unlink(f.path); err != nil {
			err = &os.PathError{Op: "unlink", Path: f.path, Err: err}
		}
	}
	return errors.Join(err, f.close())
}

func (f *lockFile) close() error {
	if err := unix.Close(f.fd); err != nil {
		return &os.PathError{Op: "close", Path: f.path, Err: err}
	}
	return nil
}
