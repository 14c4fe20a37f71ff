package lvm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestLockExcludes(t *testing.T) {
	l := fakeLVM(t, "")
	stranger := New(Options{LockDir: l.lockDir}) // as another process would
	lock, err := l.LockVG(t.Context(), "vg")
	if err != nil {
		t.Fatal(err)
	}
	refused := func(when string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := stranger.LockVG(ctx, "vg"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "V_vg") {
			t.Errorf("%s: %v", when, err)
		}
	}
	refused("held once")
	shared, err := l.WithoutBackup().LockVG(t.Context(), "vg")
	if err != nil {
		t.Fatalf("the same LVM cannot share its lock: %v", err)
	}
	for range 2 { // the second Unlock does nothing
		if err := shared.Unlock(); err != nil {
			t.Error(err)
		}
	}
	refused("held by one of two")
	other, err := l.LockVG(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(lock.Unlock(), other.Unlock()); err != nil {
		t.Error(err)
	}
	left, _ := filepath.Glob(filepath.Join(l.lockDir, "*"))
	if len(left) > 0 {
		t.Errorf("left behind: %s", left)
	}
	if again, err := stranger.LockVG(t.Context(), "vg"); err != nil || again.Unlock() != nil {
		t.Errorf("after all have let go: %v", err)
	}
	if _, err := l.LockVG(t.Context(), "../x"); err == nil {
		t.Error("a path is no volume group")
	}
}

// Who waits for a lock that nobody has yet gives up when its time is over, and leaves the others alone.
func TestLockSharedWhileWaiting(t *testing.T) {
	l := fakeLVM(t, "")
	stranger := New(Options{LockDir: l.lockDir})
	theirs, err := stranger.LockVG(t.Context(), "vg")
	if err != nil {
		t.Fatal(err)
	}
	patient := make(chan error, 1)
	go func() {
		lock, err := l.LockVG(t.Context(), "vg")
		if err == nil {
			err = lock.Unlock()
		}
		patient <- err
	}()
	for len(l.locks.of("vg").turn) == 0 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := l.LockVG(ctx, "vg"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the impatient one: %v", err)
	}
	if err := errors.Join(theirs.Unlock(), <-patient); err != nil {
		t.Error(err)
	}
}

// Somebody who waits for a file that is then unlinked must not believe to have the lock.
func TestLockNoticesUnlink(t *testing.T) {
	path := filepath.Join(t.TempDir(), "V_vg")
	holder, err := tryLock(path)
	if err != nil || holder == nil {
		t.Fatal(holder, err)
	}
	if f, err := tryLock(path); f != nil || err != nil {
		t.Fatalf("locked twice: %v, %v", f, err)
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if holder.current() {
		t.Error("a renamed file counts as current")
	}
	f, err := tryLock(path)
	if err != nil || f == nil {
		t.Fatal(f, err)
	}
	// Who had opened the old file before it went gets its lock, which is worth nothing.
	late, err := openLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".older"); err != nil {
		t.Fatal(err)
	}
	if err := f.release(); err != nil {
		t.Error(err)
	}
	if locked, err := late.acquire(); locked || err != nil {
		t.Errorf("locked a file that is not at its path any more: %v, %v", locked, err)
	}
	if err := late.close(); err != nil {
		t.Error(err)
	}
	if f, err = tryLock(path); err != nil || f == nil {
		t.Fatal(f, err)
	}
	// The old holder's release must leave the new file alone.
	if err := holder.release(); err != nil {
		t.Error(err)
	}
	if !f.current() {
		t.Error("somebody else's lock file was unlinked")
	}
	if err := f.release(); err != nil {
		t.Error(err)
	}
}

// Many holders, one at a time, against one that locks as LVM does, blocking.
func TestLockOneAtATime(t *testing.T) {
	l := fakeLVM(t, "")
	var inside, rounds atomic.Int32
	enter := func() {
		if inside.Add(1) != 1 {
			t.Error("two holders at a time")
		}
		time.Sleep(100 * time.Microsecond)
		inside.Add(-1)
		rounds.Add(1)
	}
	var all sync.WaitGroup
	for range 4 {
		process := New(Options{LockDir: l.lockDir})
		all.Go(func() {
			for range 20 {
				lock, err := process.LockVG(t.Context(), "vg")
				if err != nil {
					t.Error(err)
					return
				}
				enter()
				if err := lock.Unlock(); err != nil {
					t.Error(err)
				}
			}
		})
		all.Go(func() {
			for range 20 {
				unlock := lockLikeLVM(t, filepath.Join(l.lockDir, "V_vg"))
				enter()
				unlock()
			}
		})
	}
	all.Wait()
	if rounds.Load() != 160 {
		t.Errorf("%d rounds", rounds.Load())
	}
}

// lockLikeLVM is _do_flock and _undo_flock of lib/misc/lvm-flock.c.
func lockLikeLVM(t *testing.T, path string) (unlock func()) {
	for {
		os.MkdirAll(filepath.Dir(path), 0o700)
		fd, err := unix.Open(path, unix.O_CREAT|unix.O_APPEND|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err != nil {
			t.Error(err)
			return func() {}
		}
		f := &lockFile{path: path, fd: fd}
		if err := flock(fd, unix.LOCK_EX); err != nil {
			t.Error(err)
		}
		if !f.current() {
			f.close()
			continue
		}
		return func() {
			flock(fd, unix.LOCK_UN)
			if flock(fd, unix.LOCK_NB|unix.LOCK_EX) == nil && f.current() {
				unix.Unlink(path)
			}
			f.close()
		}
	}
}
