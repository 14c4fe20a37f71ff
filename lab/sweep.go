package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lockName is a file in a guest's directory, locked for as long as the guest's
// supervisor lives.
const lockName = "lock"

// startTime is more than enough for a guest's directory to get its supervisor.
const startTime = time.Hour

// holdLock marks a guest's directory as one that has a supervisor. The file gets
// its name when it is locked, so that no sweep sees it before.
func holdLock(dir string) (*os.File, error) {
	name := filepath.Join(dir, lockName)
	f, err := os.OpenFile(name+".new", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the guest's directory: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot lock the guest's directory: %w", err)
	}
	return f, nil
}

// sweep removes what guests left whose supervisor was killed.
func sweep(parent string) error {
	dirs, err := os.ReadDir(parent)
	if err != nil {
		return fmt.Errorf("cannot look for abandoned guests: %w", err)
	}
	for _, d := range dirs {
		dir := filepath.Join(parent, d.Name())
		dead, err := abandoned(dir)
		if err == nil && dead {
			err = os.RemoveAll(dir)
		}
		if err != nil {
			return fmt.Errorf("cannot remove an abandoned guest: %w", err)
		}
	}
	return nil
}

// abandoned tells whether a guest's directory has lost its supervisor, or should
// have had one long ago.
func abandoned(dir string) (bool, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		info, err := os.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil && time.Since(info.ModTime()) > startTime, err
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil, nil
}
