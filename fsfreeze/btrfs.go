package fsfreeze

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// btrfsFSInfo is _IOR(0x94, 31, struct btrfs_ioctl_fs_info_args) of include/uapi/linux/btrfs.h.
const btrfsFSInfo = 0x8400941f

// btrfsInfo is the beginning of struct btrfs_ioctl_fs_info_args, which has 1024 bytes.
type btrfsInfo struct {
	maxID   uint64
	devices uint64 // missing ones included
	id      [16]byte
	_       [1024 - 32]byte
}

// btrfsDevices finds the block devices of a mounted btrfs, which the mount table does not tell: its number is 0:N. The
// mount's source is one of them only, and may have been renamed since. One call to the filesystem gives its id, and sysfs
// the devices by that id.
func btrfsDevices(m Mount) ([]uint64, error) {
	fd, err := openMount(m)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var info btrfsInfo
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), btrfsFSInfo, uintptr(unsafe.Pointer(&info)))
	if errno != 0 {
		return nil, fmt.Errorf("cannot ask the btrfs at %s for its devices: %w", m.Point, errno)
	}
	return btrfsMembers(os.DirFS("/sys"), info)
}

// btrfsMembers lists the devices that sysfs has for a filesystem: fs/btrfs/ID/devices/NAME is a link to
// the block device's directory.
func btrfsMembers(sys fs.FS, info btrfsInfo) ([]uint64, error) {
	id := info.id
	name := fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	dir := path.Join("fs/btrfs", name, "devices")
	entries, err := fs.ReadDir(sys, dir)
	if err != nil {
		return nil, fmt.Errorf("cannot find the devices of btrfs %s: %w", name, err)
	}
	var devs []uint64
	for _, e := range entries {
		dev, err := deviceNumber(sys, path.Join(dir, e.Name(), "dev"))
		if err != nil {
			return nil, fmt.Errorf("cannot find the devices of btrfs %s: %w", name, err)
		}
		devs = append(devs, dev)
	}
	slices.Sort(devs)
	if uint64(len(devs)) != info.devices {
		return nil, fmt.Errorf("btrfs %s has %d devices, of which %d are there", name, info.devices, len(devs))
	}
	return devs, nil
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

// findDevices asks each btrfs once for its devices, by the first of its mounts that can be reached.
func findDevices(mounts []Mount, ask func(Mount) ([]uint64, error)) {
	type answer struct {
		devices []uint64
		err     error
	}
	known := map[uint64]answer{}
	for _, m := range mounts {
		if a, asked := known[m.Dev]; m.FSType == "btrfs" && (!asked || a.err != nil) {
			devices, err := ask(m)
			known[m.Dev] = answer{devices, err}
		}
	}
	for i := range mounts {
		if a, ok := known[mounts[i].Dev]; ok {
			mounts[i].Devices, mounts[i].Unknown = a.devices, a.err
		}
	}
}
