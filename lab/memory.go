package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// memoryDir chooses where a guest's memory lives: a file, unlinked at once, that
// the kernel maps executable. It is the first directory that has the room and
// allows that.
func memoryDir(size int64, candidates []string) (string, error) {
	var errs []error
	for _, dir := range candidates {
		err := canHoldMemory(dir, size)
		if err == nil {
			return dir, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", dir, err))
	}
	return "", fmt.Errorf("cannot find a place for the guest's memory of %d MiB: %w", size>>20, errors.Join(errs...))
}

func canHoldMemory(dir string, size int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return err
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < size {
		return fmt.Errorf("only %d MiB are free", free>>20)
	}
	f, err := os.CreateTemp(dir, "lab-")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := errors.Join(os.Remove(f.Name()), f.Truncate(int64(os.Getpagesize()))); err != nil {
		return err
	}
	mapped, err := unix.Mmap(int(f.Fd()), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_EXEC, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("cannot map executable memory: %w", err)
	}
	return unix.Munmap(mapped)
}
