package fsfreeze

import (
	"fmt"
	"io/fs"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// BlockDevices finds the block devices that hold a filesystem, in ascending order: the one whose number it has, or, for
// btrfs, whose number is anonymous, all that sysfs (root of which is sys) lists beside the one that the mount table calls
// its source. A filesystem with no block device (tmpfs, NFS, overlay) has none, and no error. number tells the device
// number that a path names; ok is false if it names no block device.
//
// A btrfs device that is missing (mount -o degraded) is not listed.
func BlockDevices(sys fs.FS, f Filesystem, number func(path string) (dev uint64, ok bool, err error)) ([]uint64, error) {
	switch {
	case unix.Major(f.Dev) != 0:
		return []uint64{f.Dev}, nil
	case f.Type != "btrfs":
		return nil, nil
	}
	source, ok, err := number(f.Source)
	if err != nil || !ok {
		if err == nil {
			err = unix.ENOTBLK
		}
		return nil, fmt.Errorf("cannot find the devices of %s, mounted from %s: %w", f.Point(), f.Source, err)
	}
	// Every mounted btrfs has a directory of its UUID, with a link for each device.
	uuids, err := fs.ReadDir(sys, "fs/btrfs")
	if err != nil {
		return nil, fmt.Errorf("cannot find the devices of %s: %w", f.Point(), err)
	}
	for _, u := range uuids {
		dir := path.Join("fs/btrfs", u.Name(), "devices")
		links, err := fs.ReadDir(sys, dir)
		if err != nil {
			continue // "features", which is no filesystem, or one that has just been unmounted
		}
		var devs []uint64
		for _, l := range links {
			dev, err := deviceNumber(sys, path.Join(dir, l.Name(), "dev"))
			if err != nil {
				return nil, fmt.Errorf("cannot find the devices of %s: %w", f.Point(), err)
			}
			devs = append(devs, dev)
		}
		if slices.Contains(devs, source) {
			slices.Sort(devs)
			return devs, nil
		}
	}
	return nil, fmt.Errorf("cannot find the devices of %s: no btrfs in /sys/fs/btrfs has %s", f.Point(), f.Source)
}

// deviceNumber reads a "dev" attribute: MAJOR:MINOR.
func deviceNumber(sys fs.FS, name string) (uint64, error) {
	b, err := fs.ReadFile(sys, name)
	if err != nil {
		return 0, err
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(string(b), "%d:%d", &major, &minor); err != nil {
		return 0, fmt.Errorf("cannot read a device number from %s: %w", name, err)
	}
	return unix.Mkdev(major, minor), nil
}
