package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// maxDisks is how many of User-Mode Linux's sixteen block devices
// (arch/um/drivers/ubd_kern.c, MAX_DEV) the guest's own two leave.
const maxDisks = 14

// diskNames are the guest's names of its first n disks.
func diskNames(n int) []string {
	var names []string
	for i := range n {
		names = append(names, "/dev/ubd"+string(rune('a'+i)))
	}
	return names
}

// makeDisks makes sparse files of the given sizes in bytes.
func makeDisks(dir string, sizes []int64) ([]string, error) {
	var files []string
	for i, size := range sizes {
		name := filepath.Join(dir, fmt.Sprintf("disk%d", i))
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			return nil, fmt.Errorf("cannot make a disk: %w", err)
		}
		if err := os.Truncate(name, size); err != nil {
			return nil, fmt.Errorf("cannot make a disk: %w", err)
		}
		files = append(files, name)
	}
	return files, nil
}
