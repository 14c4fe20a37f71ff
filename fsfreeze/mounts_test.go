package fsfreeze

import (
	"errors"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
)

func TestFilesystemsGroupsBySuperblock(t *testing.T) {
	mounts := []Mount{
		{ID: 1, Dev: 10, Point: "/", Root: "/"},
		{ID: 2, Dev: 20, Point: "/bind", Root: "/sub"},
		{ID: 3, Dev: 20, Point: "/srv", Root: "/"},
		{ID: 4, Dev: 30, Point: "/srv", Root: "/"},
	}
	fs := Filesystems(mounts)
	if len(fs) != 3 || fs[1].Point() != "/srv" || len(fs[1].Mounts) != 2 {
		t.Errorf("got %+v", fs)
	}
	if m, ok := At(mounts, "/srv"); !ok || m.ID != 4 {
		t.Errorf("/srv is covered by mount 4, got %+v", m)
	}
	if m := Under(mounts, "/bind/x"); m.ID != 2 {
		t.Errorf("/bind/x lies on mount 2, got %+v", m)
	}
	if m := Under(mounts, "/binder"); m.ID != 1 {
		t.Errorf("/binder lies on /, got %+v", m)
	}
}

func TestFreezable(t *testing.T) {
	for fstype, want := range map[string]bool{"ext4": true, "xfs": true, "cifs": false, "tmpfs": false, "vfat": false} {
		if Freezable(fstype) != want {
			t.Errorf("%s: got %v", fstype, !want)
		}
	}
}

func TestStack(t *testing.T) {
	sys := fstest.MapFS{}
	file := func(name, data string) { sys[name] = &fstest.MapFile{Data: []byte(data)} }
	link := func(name, to string) { sys[name] = &fstest.MapFile{Data: []byte(to), Mode: 0o777 | 0x8000000} }
	link("dev/block/253:3", "../../devices/virtual/block/dm-3")
	file("devices/virtual/block/dm-3/dev", "253:3\n")
	file("devices/virtual/block/dm-3/size", "2048\n")
	file("devices/virtual/block/dm-3/dm/name", "vg-home\n")
	link("devices/virtual/block/dm-3/slaves/sda1", "../../../../pci0/block/sda/sda1")
	link("devices/virtual/block/dm-3/slaves/loop0", "../../loop0")
	file("devices/pci0/block/sda/dev", "8:0\n")
	file("devices/pci0/block/sda/sda1/dev", "8:1\n")
	file("devices/pci0/block/sda/sda1/partition", "1\n")
	file("devices/virtual/block/loop0/dev", "7:0\n")
	file("devices/virtual/block/loop0/loop/backing_file", "/srv/a file\n")

	d, err := Stack(sys, unix.Mkdev(253, 3))
	if err != nil {
		t.Fatal(err)
	}
	if d.DM != "vg-home" || d.Size != 1<<20 || len(d.Below) != 2 {
		t.Errorf("got %+v", d)
	}
	if got := d.Disks(); len(got) != 2 || got[0] != "loop0" || got[1] != "sda" {
		t.Errorf("disks: got %q", got)
	}
	layers, err := Layers(
		[]Filesystem{{Dev: unix.Mkdev(253, 3)}},
		[]Mount{{Dev: 1, Point: "/"}, {Dev: 77, Point: "/srv"}},
		func(dev uint64) (Device, error) { return Stack(sys, dev) })
	if err != nil || len(layers[0].Holds) != 1 || layers[0].Holds[0] != 77 {
		t.Errorf("holds: got %+v, %v", layers, err)
	}
	if _, err := Stack(sys, unix.Mkdev(9, 9)); !errors.Is(err, unix.ENOENT) && err == nil {
		t.Errorf("a device that does not exist: got %v", err)
	}
}
