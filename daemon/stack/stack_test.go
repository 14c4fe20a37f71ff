package stack

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/fsfreeze"
)

// sysTree makes a sysfs of "device DIR NUMBER SECTORS" lines, each with "ATTRIBUTE = VALUE" and "slave DIR" lines below.
func sysTree(t testing.TB, text string) fstest.MapFS {
	t.Helper()
	sys := fstest.MapFS{}
	file := func(name, value string) { sys[name] = &fstest.MapFile{Data: []byte(value + "\n"), Mode: 0o444} }
	link := func(name, to string) {
		up := strings.Repeat("../", strings.Count(path.Dir(name), "/")+1)
		sys[name] = &fstest.MapFile{Data: []byte(up + to), Mode: fs.ModeSymlink | 0o777}
	}
	dir := ""
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "device":
			dir = words[1]
			file(dir+"/dev", words[2])
			file(dir+"/size", words[3])
			link("dev/block/"+words[2], dir)
		case words[0] == "slave":
			link(dir+"/slaves/"+path.Base(words[1]), words[1])
		default:
			name, value, _ := strings.Cut(strings.TrimSpace(line), " = ")
			file(dir+"/"+name, value)
		}
	}
	return sys
}

// A host as Linux 6.1 and LVM 2.03 show it, without attributes that do not matter here: two disks with a partition each
// in a mirror below /boot, a volume group over two disks with a thin pool and a striped volume, and on its filesystem the
// file of a loop device with a volume group of its own.
const host = `
device devices/pci/vda 254:0 41943040
device devices/pci/vda/vda1 254:1 2097152
	partition = 1
device devices/pci/vdb 254:16 41943040
device devices/pci/vdb/vdb1 254:17 2097152
	partition = 1
device devices/virtual/block/md0 9:0 2093056
	md/level = raid1
	slave devices/pci/vda/vda1
	slave devices/pci/vdb/vdb1
device devices/pci/vdc 254:32 8388608
device devices/pci/vdd 254:48 8388608
device devices/virtual/block/dm-0 253:0 32768
	dm/name = vg-pool_tmeta
	dm/uuid = LVM-3YpU2nNdeYoPVPa2EkcBW2yIDaUsTGvnWn6ut2rX9UMmSCWzyH8HZcTcsJSwqdMW-tmeta
	slave devices/pci/vdd
device devices/virtual/block/dm-1 253:1 4194304
	dm/name = vg-pool_tdata
	dm/uuid = LVM-3YpU2nNdeYoPVPa2EkcBW2yIDaUsTGvnG1zZPXcJwJtNcDlzEJPXcJwJtNcDlzEJ-tdata
	slave devices/pci/vdc
device devices/virtual/block/dm-2 253:2 4194304
	dm/name = vg-pool-tpool
	dm/uuid = LVM-3YpU2nNdeYoPVPa2EkcBW2yIDaUsTGvnfXyGgPsvCFPCMvUWmNiPrxdCPrLWHsGg-tpool
	slave devices/virtual/block/dm-0
	slave devices/virtual/block/dm-1
device devices/virtual/block/dm-3 253:3 2097152
	dm/name = vg-my--data
	dm/uuid = LVM-3YpU2nNdeYoPVPa2EkcBW2yIDaUsTGvnKpLDJqUdZXqmvvmXLmWxhjcKpLDJqUdZ
	slave devices/virtual/block/dm-2
device devices/virtual/block/dm-4 253:4 1048576
	dm/name = vg-stripes
	dm/uuid = LVM-3YpU2nNdeYoPVPa2EkcBW2yIDaUsTGvnUdZXqmvvmXLmWxhjcKpLDJqUdZKpLDJq
	slave devices/pci/vdc
	slave devices/pci/vdd
device devices/virtual/block/loop0 7:0 204800
	loop/backing_file = /srv/my data/pv.img
device devices/virtual/block/dm-5 253:5 163840
	dm/name = inner-lv
	dm/uuid = LVM-xDFEnotbdpfLpFJpFJnsTvFJxwqFLxfnUdZXqmvvmXLmWxhjcKpLDJqUdZKpLDJq
	slave devices/virtual/block/loop0
device devices/virtual/block/dm-6 253:6 41943040
	dm/name = mpatha
	dm/uuid = mpath-3600508b400105e210000900000490000
	slave devices/pci/vda
	slave devices/pci/vdb
device devices/virtual/block/loop1 7:1 2048
	loop/backing_file = /tmp/gone (deleted)
device devices/virtual/block/loop2 7:2 2048
	loop/backing_file = /mnt/self/file
`

func source(t testing.TB, sys fs.FS) Source {
	mount := func(id int, major, minor uint32, point, root, fstype string) fsfreeze.Mount {
		return fsfreeze.Mount{ID: id, Dev: unix.Mkdev(major, minor), Point: point, Root: root, FSType: fstype}
	}
	return Source{
		Mounts: []fsfreeze.Mount{
			mount(1, 254, 0, "/", "/", "ext4"),
			mount(2, 9, 0, "/boot", "/", "ext2"),
			mount(3, 253, 3, "/srv", "/", "xfs"),
			mount(4, 253, 3, "/srv/bind mount", "/inside", "xfs"),
			mount(5, 253, 5, "/inner", "/", "ext4"),
			mount(6, 0, 22, "/tmp", "/", "tmpfs"),
			mount(7, 0, 40, "/pair", "/", "btrfs"),
			mount(8, 7, 2, "/mnt/self", "/", "ext4"),
			mount(9, 0, 41, "/lost", "/", "btrfs"),
			mount(10, 8, 99, "/unplugged", "/", "ext4"),
		},
		Stack: func(dev uint64) (fsfreeze.Device, error) { return fsfreeze.Stack(sys, dev) },
		Devices: func(f fsfreeze.Filesystem) ([]uint64, error) {
			switch f.Dev {
			case unix.Mkdev(0, 40):
				return []uint64{unix.Mkdev(253, 4), unix.Mkdev(253, 6)}, nil
			case unix.Mkdev(0, 41):
				return nil, errors.New("no btrfs has it")
			case unix.Mkdev(0, 22):
				return nil, nil
			}
			return []uint64{f.Dev}, nil
		},
		Targets: func(dev uint64) ([]string, error) {
			types := map[uint64][]string{
				unix.Mkdev(253, 0): {"linear"}, unix.Mkdev(253, 1): {"linear", "linear"}, unix.Mkdev(253, 2): {"thin-pool"},
				unix.Mkdev(253, 3): {"thin"}, unix.Mkdev(253, 4): {"striped"}, unix.Mkdev(253, 5): {"linear"},
			}[dev]
			if types == nil {
				return nil, errors.New("no such device")
			}
			return types, nil
		},
	}
}

// render writes a tree with one line a node, two spaces a level.
func render(n api.Node, indent string) string {
	line := indent + string(n.Kind) + " " + n.Name
	for _, x := range []struct{ label, value string }{
		{"", n.Device}, {"", strings.Join(n.Targets, "+")}, {"layer ", n.Layer}, {"also at ", strings.Join(n.MountPoints, ", ")}, {"! ", n.Problem},
	} {
		if x.value != "" {
			line += "; " + x.label + x.value
		}
	}
	line += "\n"
	for _, b := range n.Below {
		line += render(b, indent+"  ")
	}
	return line
}

func TestFilesystem(t *testing.T) {
	src := source(t, sysTree(t, host))
	tests := []struct{ point, want, disks string }{
		{"/boot", `
mount /boot
  filesystem ext2
    md md0; 9:0; raid1
      partition vda1; 254:1
        disk vda; 254:0
      partition vdb1; 254:17
        disk vdb; 254:16
`, "vda vdb"},
		{"/srv", `
mount /srv; also at /srv, /srv/bind mount
  filesystem xfs
    lvm vg/my-data; 253:3; thin
      lvm vg/pool; 253:2; thin-pool; layer tpool
        lvm vg/pool_tmeta; 253:0; linear; layer tmeta
          disk vdd; 254:48
        lvm vg/pool_tdata; 253:1; linear; layer tdata
          disk vdc; 254:32
`, "vdc vdd"},
		{"/inner", `
mount /inner
  filesystem ext4
    lvm inner/lv; 253:5; linear
      loop loop0; 7:0
        file /srv/my data/pv.img
          mount /srv
            filesystem xfs
              lvm vg/my-data; 253:3; thin
                lvm vg/pool; 253:2; thin-pool; layer tpool
                  lvm vg/pool_tmeta; 253:0; linear; layer tmeta
                    disk vdd; 254:48
                  lvm vg/pool_tdata; 253:1; linear; layer tdata
                    disk vdc; 254:32
`, "vdc vdd"},
		{"/pair", `
mount /pair
  filesystem btrfs
    lvm vg/stripes; 253:4; striped
      disk vdc; 254:32
      disk vdd; 254:48
    device-mapper mpatha; 253:6; ! no such device
      disk vda; 254:0
      disk vdb; 254:16
`, "vda vdb vdc vdd"},
		{"/lost", `
mount /lost
  filesystem btrfs; ! no btrfs has it
`, ""},
		{"/unplugged", `
mount /unplugged
  filesystem ext4
    disk 8:99; 8:99; ! cannot find block device 8:99: readlink dev/block/8:99: file does not exist
`, "8:99"},
	}
	for _, tt := range tests {
		t.Run(tt.point, func(t *testing.T) {
			for _, f := range fsfreeze.Filesystems(src.Mounts) {
				if f.Point() != tt.point {
					continue
				}
				tree := src.Filesystem(f)
				if got := "\n" + render(tree, ""); got != tt.want {
					t.Errorf("got %s want %s", got, tt.want)
				}
				if got := strings.Join(Disks(tree), " "); got != tt.disks {
					t.Errorf("disks: got %s, want %s", got, tt.disks)
				}
			}
		})
	}
}

func TestDevice(t *testing.T) {
	src := source(t, sysTree(t, host))
	got := "\n" + render(src.Device(unix.Mkdev(7, 1)), "")
	if want := `
loop loop1; 7:1
  file /tmp/gone; ! the file has been deleted
    mount /tmp
      filesystem tmpfs
`; got != want {
		t.Errorf("got %s want %s", got, want)
	}
	if n := src.Device(unix.Mkdev(253, 3)); n.Size != 1<<30 || !strings.HasPrefix(n.UUID, "LVM-") {
		t.Errorf("got %d bytes, uuid %q", n.Size, n.UUID)
	}
}

// A file on the filesystem of its own loop device cannot exist for long; a tree of it must end all the same.
func TestCycle(t *testing.T) {
	got := render(source(t, sysTree(t, host)).Device(unix.Mkdev(7, 2)), "")
	if n := strings.Count(got, "loop loop2"); n != maxFiles+1 || !strings.Contains(got, "more than 8 files lie one on another") {
		t.Errorf("%d times the device in\n%s", n, got)
	}
}

// Thirty layers of two devices each, all over all below, are 2^30 ways down.
func TestWide(t *testing.T) {
	var text strings.Builder
	for i := range 30 {
		for j := range 2 {
			fmt.Fprintf(&text, "device devices/d%d_%d 8:%d 8\n", i, j, 2*i+j)
			if i > 0 {
				fmt.Fprintf(&text, "slave devices/d%d_0\nslave devices/d%d_1\n", i-1, i-1)
			}
		}
	}
	n := source(t, sysTree(t, text.String())).Device(unix.Mkdev(8, 59))
	if !strings.Contains(n.Problem, "more than 4096 devices") {
		t.Errorf("got %s", n.Problem)
	}
}

// FuzzTree gives it a sysfs in which anything may stand: it must end, within its bounds.
func FuzzTree(f *testing.F) {
	f.Add(host)
	f.Add("device a 253:0 x\nslave a\nslave b\n")
	f.Add("device a 253:0 -1\npartition = 1\n")
	f.Add("device a 7:0 99999999999999999999\nloop/backing_file = //\n")
	f.Fuzz(func(t *testing.T, text string) {
		for line := range strings.Lines(text) {
			words := strings.Fields(line)
			if len(words) > 0 && (words[0] == "device" && len(words) < 4 || words[0] == "slave" && len(words) < 2) {
				return // not of the form that sysTree reads
			}
		}
		src := source(t, sysTree(t, text))
		if n := strings.Count(render(src.Device(unix.Mkdev(253, 5)), ""), "\n"); n > 4*maxNodes {
			t.Errorf("%d lines", n)
		}
	})
}
