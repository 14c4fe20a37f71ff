package fsfreeze

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestBtrfsMembers(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	sys := fstest.MapFS{
		"fs/btrfs/00112233-4455-6677-8899-aabbccddeeff/devices/dm-3": file(""),
		"fs/btrfs/01112233-4455-6677-8899-aabbccddeeff/devices/dm-4": file(""),
		"fs/btrfs/01112233-4455-6677-8899-aabbccddeeff/devices/sda1": file(""),
		"fs/btrfs/02112233-4455-6677-8899-aabbccddeeff/devices/gone": file(""),
		"class/block/dm-3/dev": file("253:3\n"),
		"class/block/dm-4/dev": file("253:4\n"),
		"class/block/sda1/dev": file("8:1\n"),
	}
	info := func(first byte, devices uint64) btrfsInfo {
		i := btrfsInfo{devices: devices, id: [16]byte{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}}
		i.id[0] = first
		return i
	}
	for _, tt := range []struct {
		name string
		info btrfsInfo
		want []uint64
		err  string
	}{
		{"one", info(0, 1), []uint64{unix.Mkdev(253, 3)}, ""},
		{"two", info(1, 2), []uint64{unix.Mkdev(253, 4), unix.Mkdev(8, 1)}, ""},
		{"one is missing", info(0, 2), nil, "has 2 devices, of which 1 are there"},
		{"one has just gone", info(2, 1), nil, "cannot read the number of gone"},
		{"not there", info(3, 1), nil, "cannot find the devices of btrfs 03112233-"},
	} {
		got, err := btrfsMembers(sys, tt.info)
		switch {
		case tt.err == "" && (err != nil || !slices.Equal(got, tt.want)):
			t.Errorf("%s: got %v, %v", tt.name, got, err)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("%s: got %v, %v", tt.name, got, err)
		case strings.Contains(tt.err, "cannot") && !errors.Is(err, fs.ErrNotExist):
			t.Errorf("%s: the cause is lost: %v", tt.name, err)
		}
	}
	if n := unsafe.Sizeof(btrfsInfo{}); n != 1024 {
		t.Errorf("struct btrfs_ioctl_fs_info_args has 1024 bytes, not %d", n)
	}
}

func TestDevice(t *testing.T) {
	for _, tt := range []struct {
		name string
		m    Mount
		want uint64
		err  string
	}{
		{"a device of its own", Mount{Dev: unix.Mkdev(8, 1), FSType: "ext4"}, unix.Mkdev(8, 1), ""},
		{"btrfs on one", Mount{Dev: 30, FSType: "btrfs", Devices: []uint64{unix.Mkdev(253, 3)}}, unix.Mkdev(253, 3), ""},
		{"btrfs on two", Mount{Dev: 30, FSType: "btrfs", Devices: []uint64{1, 2}}, 0, "it is spread over 2 devices"},
		{"btrfs of which nobody knows", Mount{Dev: 30, FSType: "btrfs", Unknown: unix.EPERM}, 0, "operation not permitted"},
		{"tmpfs", Mount{Dev: 30, FSType: "tmpfs"}, 0, "tmpfs has no block device of its own"},
	} {
		f := Filesystems([]Mount{tt.m})[0]
		got, err := f.Device()
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: got %v, %v", tt.name, got, err)
		}
	}
}
