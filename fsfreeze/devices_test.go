package fsfreeze

import (
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sysTree makes a sysfs of "PATH = content" and "PATH -> target" lines.
func sysTree(t testing.TB, text string) fstest.MapFS {
	t.Helper()
	sys := fstest.MapFS{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if name, target, ok := strings.Cut(line, " -> "); ok {
			sys[name] = &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
			continue
		}
		name, value, ok := strings.Cut(line, " = ")
		if !ok {
			t.Fatalf("bad line %q", line)
		}
		sys[name] = &fstest.MapFile{Data: []byte(value + "\n"), Mode: 0o444}
	}
	return sys
}

// Two btrfs, one over two LVs, as Linux 6.1 shows them.
const sysBtrfs = `
fs/btrfs/features/raid56 = 0
fs/btrfs/0aae3c0c-4b4d-4c8e-a2b1-7e30b2ff6d01/label = one
fs/btrfs/0aae3c0c-4b4d-4c8e-a2b1-7e30b2ff6d01/devices/dm-7 -> ../../../../devices/virtual/block/dm-7
fs/btrfs/6d16b1c1-0a6f-4f23-9c6c-9a7a2cb3a502/devices/dm-5 -> ../../../../devices/virtual/block/dm-5
fs/btrfs/6d16b1c1-0a6f-4f23-9c6c-9a7a2cb3a502/devices/dm-4 -> ../../../../devices/virtual/block/dm-4
fs/btrfs/6d16b1c1-0a6f-4f23-9c6c-9a7a2cb3a503/devices/dm-9 -> ../../../../devices/virtual/block/dm-9
devices/virtual/block/dm-4/dev = 254:4
devices/virtual/block/dm-5/dev = 254:5
devices/virtual/block/dm-7/dev = 254:7
`

func TestBtrfsMembers(t *testing.T) {
	sys := sysTree(t, sysBtrfs)
	one := btrfsInfo{devices: 1, id: [16]byte{0x0a, 0xae, 0x3c, 0x0c, 0x4b, 0x4d, 0x4c, 0x8e, 0xa2, 0xb1, 0x7e, 0x30, 0xb2, 0xff, 0x6d, 0x01}}
	two := btrfsInfo{devices: 2, id: [16]byte{0x6d, 0x16, 0xb1, 0xc1, 0x0a, 0x6f, 0x4f, 0x23, 0x9c, 0x6c, 0x9a, 0x7a, 0x2c, 0xb3, 0xa5, 0x02}}
	degraded, gone, fleeting := one, one, two
	degraded.devices, gone.id[0], fleeting.id[15] = 2, 9, 3
	tests := []struct {
		name string
		info btrfsInfo
		want []uint64
		err  string
	}{
		{"one", one, []uint64{unix.Mkdev(254, 7)}, ""},
		{"two", two, []uint64{unix.Mkdev(254, 4), unix.Mkdev(254, 5)}, ""},
		{"one of two is missing", degraded, nil, "has 2 devices, of which 1 are there"},
		{"not in sysfs", gone, nil, "cannot find the devices of btrfs 09ae3c0c-4b4d-4c8e-a2b1-7e30b2ff6d01: "},
		{"a device that has just gone", fleeting, nil, "cannot find the devices of btrfs 6d16b1c1-0a6f-4f23-9c6c-9a7a2cb3a503: "},
	}
	for _, tt := range tests {
		got, err := btrfsMembers(sys, tt.info)
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.err)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
	if n := unsafe.Sizeof(btrfsInfo{}); n != 1024 {
		t.Errorf("struct btrfs_ioctl_fs_info_args has 1024 bytes, not %d", n)
	}
}

// Each btrfs is asked once, by a mount that can be reached.
func TestFindDevices(t *testing.T) {
	mounts := []Mount{
		{ID: 1, Dev: unix.Mkdev(8, 1), FSType: "ext4"}, {ID: 2, Dev: 40, FSType: "btrfs"}, {ID: 3, Dev: 40, FSType: "btrfs"},
		{ID: 4, Dev: 40, FSType: "btrfs"}, {ID: 5, Dev: 41, FSType: "btrfs"}, {ID: 6, Dev: 42, FSType: "tmpfs"},
	}
	var asked []int
	findDevices(mounts, func(m Mount) ([]uint64, error) {
		if asked = append(asked, m.ID); m.ID == 3 {
			return []uint64{7}, nil
		}
		return nil, unix.EACCES
	})
	if !slices.Equal(asked, []int{2, 3, 5}) {
		t.Errorf("asked by mounts %v", asked)
	}
	for _, m := range mounts {
		want := map[uint64][]uint64{40: {7}}[m.Dev]
		if !slices.Equal(m.Devices, want) || (m.Unknown != nil) != (m.Dev == 41) {
			t.Errorf("mount %d: got %v, %v", m.ID, m.Devices, m.Unknown)
		}
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
