package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Numbers and layouts are those of include/uapi/linux/btrfs.h.
const (
	iocSnapCreateV2 = 0x50009417 // _IOW(0x94, 23, struct btrfs_ioctl_vol_args_v2)
	iocSnapDestroy  = 0x5000940f // _IOW(0x94, 15, struct btrfs_ioctl_vol_args)
	iocInoLookup    = 0xd0009412 // _IOWR(0x94, 18, struct btrfs_ioctl_ino_lookup_args)
	iocFSInfo       = 0x8400941f // _IOR(0x94, 31, struct btrfs_ioctl_fs_info_args)
	iocDevInfo      = 0xd000941e // _IOWR(0x94, 30, struct btrfs_ioctl_dev_info_args)
	iocRootRefs     = 0xd000943d // _IOWR(0x94, 61, struct btrfs_ioctl_get_subvol_rootref_args)
	iocLookupUser   = 0xd000943e // _IOWR(0x94, 62, struct btrfs_ioctl_ino_lookup_user_args)

	subvolReadOnly  = 1 << 1 // BTRFS_SUBVOL_RDONLY
	firstFreeObject = 256    // BTRFS_FIRST_FREE_OBJECTID: the inode of every subvolume's top
)

// volArgs is struct btrfs_ioctl_vol_args; volArgs2 is struct btrfs_ioctl_vol_args_v2.
type volArgs struct {
	fd   int64
	name [4088]byte
}

type volArgs2 struct {
	fd             int64
	transid, flags uint64
	unused         [4]uint64
	name           [4040]byte
}

type inoLookupArgs struct {
	treeid, objectid uint64
	name             [4080]byte
}

type fsInfoArgs struct {
	maxID, devices uint64
	fsid           [16]byte
	reserved       [992]byte
}

type devInfoArgs struct {
	devid       uint64
	uuid        [16]byte
	used, total uint64
	unused      [379]uint64
	path        [1024]byte
}

// rootRefs is struct btrfs_ioctl_get_subvol_rootref_args; lookupUserArgs is struct btrfs_ioctl_ino_lookup_user_args.
type rootRefs struct {
	min  uint64
	refs [255]struct{ subvolume, dir uint64 }
	n    uint8
	_    [7]byte
}

type lookupUserArgs struct {
	dir, subvolume uint64
	name           [256]byte
	path           [3824]byte
}

func ioctl(fd int, request uint, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
			continue
		}
		return errno
	}
}

// capture is a snapshot ready to be made: into a directory, of a subvolume, by one system call.
type capture struct {
	dir, top *os.File
	args     volArgs2
}

func newCapture(dir, top *os.File, name string) *capture {
	c := &capture{dir: dir, top: top}
	c.args.fd, c.args.flags = int64(top.Fd()), subvolReadOnly
	copy(c.args.name[:len(c.args.name)-1], name)
	return c
}

func (c *capture) do() error {
	err := ioctl(int(c.dir.Fd()), iocSnapCreateV2, unsafe.Pointer(&c.args))
	runtime.KeepAlive(c.top)
	return err
}

// destroy removes a subvolume from a directory.
func destroy(dir *os.File, name string) error {
	var args volArgs
	copy(args.name[:len(args.name)-1], name)
	return ioctl(int(dir.Fd()), iocSnapDestroy, unsafe.Pointer(&args))
}

// subvolumeID is the number of the subvolume that an open directory belongs to.
func subvolumeID(dir *os.File) (uint64, error) {
	args := inoLookupArgs{objectid: firstFreeObject}
	err := ioctl(int(dir.Fd()), iocInoLookup, unsafe.Pointer(&args))
	return args.treeid, err
}

// nested lists the subvolumes that lie directly in the one whose top is open, wherever in it, as paths from its top.
func nested(top *os.File) (paths []string, err error) {
	var args rootRefs
	for {
		err := ioctl(int(top.Fd()), iocRootRefs, unsafe.Pointer(&args))
		if err != nil && !errors.Is(err, unix.EOVERFLOW) { // there are more
			return nil, err
		}
		for _, r := range args.refs[:args.n] {
			at := lookupUserArgs{dir: r.dir, subvolume: r.subvolume}
			switch err := ioctl(int(top.Fd()), iocLookupUser, unsafe.Pointer(&at)); {
			case errors.Is(err, unix.ENOENT): // removed meanwhile
			case err != nil:
				return nil, err
			default:
				paths = append(paths, unix.ByteSliceToString(at.path[:])+unix.ByteSliceToString(at.name[:]))
			}
		}
		if err == nil {
			return paths, nil
		}
	}
}

// filesystem tells a filesystem's UUID and the device of it that has the lowest number.
func filesystem(dir *os.File) (fsid, device string, err error) {
	var info fsInfoArgs
	if err := ioctl(int(dir.Fd()), iocFSInfo, unsafe.Pointer(&info)); err != nil {
		return "", "", err
	}
	id := info.fsid
	fsid = fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	for n := uint64(1); n <= info.maxID; n++ {
		args := devInfoArgs{devid: n}
		err = ioctl(int(dir.Fd()), iocDevInfo, unsafe.Pointer(&args))
		if errors.Is(err, unix.ENODEV) {
			continue // one that was removed
		}
		path, _, _ := bytes.Cut(args.path[:], []byte{0})
		return fsid, string(path), err
	}
	return fsid, "", err
}

// sizes are those of the headers; a wrong one would make the kernel write beyond it.
var (
	_ = [1]int{}[unsafe.Sizeof(volArgs{})-4096]
	_ = [1]int{}[unsafe.Sizeof(volArgs2{})-4096]
	_ = [1]int{}[unsafe.Sizeof(inoLookupArgs{})-4096]
	_ = [1]int{}[unsafe.Sizeof(fsInfoArgs{})-1024]
	_ = [1]int{}[unsafe.Sizeof(devInfoArgs{})-4096]
	_ = [1]int{}[unsafe.Sizeof(rootRefs{})-4096]
	_ = [1]int{}[unsafe.Sizeof(lookupUserArgs{})-4096]
)
