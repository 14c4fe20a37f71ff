package fsfreeze

import (
	"fmt"
	"io/fs"
	"os"
	"path"
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

// btrfsMembers lists the devices that sysfs has for a filesystem: fs/btrfs/ID/devices/NAME leads to the block device.
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
		b, err := fs.ReadFile(sys, path.Join("class/block", e.Name(), "dev"))
		if err != nil {
			return nil, fmt.Errorf("cannot read the number of %s: %w", e.Name(), err)
		}
		var major, minor uint32
		if _, err := fmt.Sscanf(string(b), "%d:%d", &major, &minor); err != nil {
			return nil, fmt.Errorf("cannot read the number of %s: %w", e.Name(), err)
		}
		devs = append(devs, unix.Mkdev(major, minor))
	}
	if uint64(len(devs)) != info.devices {
		return nil, fmt.Errorf("btrfs %s has %d devices, of which %d are there", name, info.devices, len(devs))
	}
	return devs, nil
}
