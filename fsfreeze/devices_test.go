package fsfreeze

import (
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

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
devices/virtual/block/dm-4/dev = 254:4
devices/virtual/block/dm-5/dev = 254:5
devices/virtual/block/dm-7/dev = 254:7
`

func TestBlockDevices(t *testing.T) {
	sys := sysTree(t, sysBtrfs)
	numbers := map[string]uint64{"/dev/mapper/a": unix.Mkdev(254, 4), "/dev/b": unix.Mkdev(254, 5), "/dev/c": unix.Mkdev(254, 7), "/dev/gone": unix.Mkdev(8, 1)}
	number := func(p string) (uint64, bool, error) {
		if p == "/dev/nothing" {
			return 0, false, unix.ENOENT
		}
		dev, ok := numbers[p]
		return dev, ok, nil
	}
	tests := []struct {
		name string
		fs   Filesystem
		want []uint64
		err  string
	}{
		{"ext4", Filesystem{Dev: unix.Mkdev(8, 1), Type: "ext4"}, []uint64{unix.Mkdev(8, 1)}, ""},
		{"tmpfs", Filesystem{Dev: unix.Mkdev(0, 22), Type: "tmpfs", Source: "tmpfs"}, nil, ""},
		{"btrfs", Filesystem{Dev: unix.Mkdev(0, 40), Type: "btrfs", Source: "/dev/c"}, []uint64{unix.Mkdev(254, 7)}, ""},
		{"btrfs by its second device", Filesystem{Dev: unix.Mkdev(0, 41), Type: "btrfs", Source: "/dev/b"}, []uint64{unix.Mkdev(254, 4), unix.Mkdev(254, 5)}, ""},
		{"not in sysfs", Filesystem{Dev: unix.Mkdev(0, 42), Type: "btrfs", Source: "/dev/gone"}, nil, "no btrfs in /sys/fs/btrfs has /dev/gone"},
		{"source gone", Filesystem{Dev: unix.Mkdev(0, 42), Type: "btrfs", Source: "/dev/nothing"}, nil, "no such file"},
		{"source no device", Filesystem{Dev: unix.Mkdev(0, 42), Type: "btrfs", Source: "none"}, nil, "block device required"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := BlockDevices(sys, tt.fs, number)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("got error %v, want %q", err, tt.err)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
