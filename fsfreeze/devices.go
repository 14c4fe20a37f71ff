package fsfreeze

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// BlockDevices are the block devices that hold a filesystem: the one whose number it has, or, for a btrfs, whose number is
// anonymous, those that it named when the mount table was read. A filesystem with no block device (tmpfs, NFS, overlay)
// has none, and no error.
func (f Filesystem) BlockDevices() ([]uint64, error) {
	if unix.Major(f.Dev) != 0 {
		return []uint64{f.Dev}, nil
	}
	return f.Devices, f.Unknown
}

// Device is the one block device that holds the filesystem; Dev is the superblock's own number, which for a btrfs is no
// device's.
func (f Filesystem) Device() (uint64, error) {
	devs, err := f.BlockDevices()
	switch {
	case err != nil:
		return 0, err
	case len(devs) > 1:
		return 0, fmt.Errorf("it is spread over %d devices, and only a filesystem on one can be captured", len(devs))
	case len(devs) == 0:
		return 0, fmt.Errorf("%s has no block device of its own that could be captured", f.Type)
	}
	return devs[0], nil
}

// OnDevice finds the filesystem that a block device holds.
func OnDevice(all []Filesystem, dev uint64) (Filesystem, bool) {
	for _, f := range all {
		if f.Dev == dev || slices.Contains(f.Devices, dev) {
			return f, true
		}
	}
	return Filesystem{}, false
}

// Point is the mount point by which the filesystem is called.
func (f Filesystem) Point() string {
	if len(f.Mounts) == 0 {
		return "(not mounted)"
	}
	return f.Mounts[0].Point
}
