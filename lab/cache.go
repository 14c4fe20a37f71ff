package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// cacheDir is where the lab keeps what is slow to fetch or build: first of
// $FERMATA_LAB_CACHE, $XDG_CACHE_HOME/fermata-lab, ~/.cache/fermata-lab.
func cacheDir(getenv func(string) string) (string, error) {
	if dir := getenv("FERMATA_LAB_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	if dir := getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "fermata-lab"), nil
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".cache", "fermata-lab"), nil
	}
	return "", fmt.Errorf("cannot find a cache directory: set FERMATA_LAB_CACHE or HOME")
}

// hashOf is a short name for what was made of the given inputs.
func hashOf(inputs ...string) string {
	h := sha256.New()
	for _, s := range inputs {
		fmt.Fprintf(h, "%d\n%s", len(s), s)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// once gives the path dir/name, made by build if it is not there. Build makes it
// under a temporary name, which becomes the real one when it is whole; a lock
// makes other processes wait instead of building the same.
func once(dir, name string, build func(path string) error) (string, error) {
	path := filepath.Join(dir, name)
	now := time.Now()
	if err := os.Chtimes(path, now, now); err == nil { // what is in use is not pruned
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("cannot make the cache: %w", err)
	}
	unlock, err := lockFile(filepath.Join(dir, "."+name+".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Lstat(path); err == nil {
		return path, nil // made while this process waited
	}
	temporary := filepath.Join(dir, "."+name+".new")
	if err := os.RemoveAll(temporary); err != nil {
		return "", fmt.Errorf("cannot make %s: %w", path, err)
	}
	defer os.RemoveAll(temporary)
	if err := build(temporary); err != nil {
		return "", err
	}
	if err := os.Rename(temporary, path); err != nil {
		return "", fmt.Errorf("cannot make %s: %w", path, err)
	}
	return path, nil
}

// lockFile takes an exclusive lock on a file, made if need be, and waits for it.
// The lock ends with unlock or with the process.
func lockFile(name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot lock: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot lock %s: %w", name, err)
	}
	return func() { f.Close() }, nil
}

// prune removes the oldest of the files that match a pattern, beyond so many. A
// guest that runs on one has it open and keeps it.
func prune(pattern string, keep int) error {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return fmt.Errorf("cannot prune the cache: %w", err)
	}
	age := map[string]time.Time{}
	for _, name := range files {
		if info, err := os.Stat(name); err == nil {
			age[name] = info.ModTime()
		}
	}
	slices.SortFunc(files, func(a, b string) int { return age[b].Compare(age[a]) })
	for _, name := range files[min(keep, len(files)):] {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot prune the cache: %w", err)
		}
	}
	return nil
}
