package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// guestsDir is the directory that holds the guests' own: $FERMATA_LAB_GUESTS, or one in memory if there is room for the
// disks, or one in the cache. In memory a guest's flush costs nothing, so that its times are the kernel's and Fermata's,
// not those of this host's disk.
func guestsDir(cache string, disks []int64) string {
	if dir := os.Getenv("FERMATA_LAB_GUESTS"); dir != "" {
		return dir
	}
	var need int64
	for _, size := range disks {
		need += size
	}
	dir := filepath.Join("/dev/shm", "fermata-lab-"+strconv.Itoa(os.Getuid()))
	if ownDir(dir, need) == nil {
		return dir
	}
	return filepath.Join(cache, "guests")
}

// ownDir makes a directory in a folder that everybody may write to, and makes sure that it is ours and has the room.
func ownDir(dir string, need int64) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || int(st.Uid) != os.Getuid() || info.Mode().Perm() != 0o700 {
		return fmt.Errorf("%s is not ours", dir)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return err
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < need {
		return fmt.Errorf("only %d MiB are free in %s", free>>20, dir)
	}
	return nil
}
