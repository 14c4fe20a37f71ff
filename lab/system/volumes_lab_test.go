//go:build lab

package system

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

// A stack of everything: a thin volume, a volume striped over two disks, on its filesystem the file of a loop device, on
// that a volume group with a mounted volume of its own, and a btrfs over two volumes.
func TestVolumes(t *testing.T) {
	labtest.CheckClean(t)
	disks := labtest.Disks(t)
	run := func(argv ...string) string { return labtest.Run(t, argv...) }
	mount := func(device, point string) {
		if err := os.MkdirAll(point, 0o755); err != nil {
			t.Fatal(err)
		}
		run("mount", device, point)
		t.Cleanup(func() { run("umount", point); os.Remove(point) })
	}
	run(append([]string{"vgcreate", "-qq", "-y", "vg"}, disks[:2]...)...)
	t.Cleanup(func() {
		run("vgremove", "-qq", "-ff", "-y", "vg")
		run(append([]string{"pvremove", "-qq", "-y"}, disks[:2]...)...)
	})
	run("lvcreate", "-qq", "-y", "-L", "300m", "--thinpool", "pool", "--poolmetadatasize", "16m", "vg", disks[0])
	labtest.Thin(t, "vg", "thin-one", "200m", "ext4")
	run("mount", "--bind", "/srv/thin-one", "/mnt")
	t.Cleanup(func() { run("umount", "/mnt") })

	run("lvcreate", "-qq", "-y", "-i", "2", "-L", "400m", "-n", "stripes", "vg")
	run("mkfs.xfs", "-q", "/dev/vg/stripes")
	mount("/dev/vg/stripes", "/srv/stripes")
	run("truncate", "-s", "200m", "/srv/stripes/a pv.img")
	loop := strings.TrimSpace(run("losetup", "--show", "-f", "/srv/stripes/a pv.img"))
	t.Cleanup(func() {
		run("losetup", "-d", loop)
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			if _, status := labtest.Try(t, "losetup", loop); status != 0 {
				return // udev had it open, and the kernel detached it with the last close
			}
		}
		t.Errorf("%s is not detached", loop)
	})
	run("vgcreate", "-qq", "-y", "inner", loop)
	t.Cleanup(func() { run("vgremove", "-qq", "-ff", "-y", "inner") })
	run("lvcreate", "-qq", "-y", "-L", "100m", "-n", "lv", "inner")
	run("mkfs.ext4", "-q", "/dev/inner/lv")
	mount("/dev/inner/lv", "/srv/inner")

	for _, name := range []string{"b1", "b2"} {
		run("lvcreate", "-qq", "-y", "-L", "200m", "-n", name, "vg", disks[1])
	}
	run("mkfs.btrfs", "-q", "/dev/vg/b1", "/dev/vg/b2")
	run("btrfs", "device", "scan", "/dev/vg/b1", "/dev/vg/b2")
	mount("/dev/vg/b2", "/srv/btrfs")

	var volumes []api.Volume
	decode(t, must(t, "volume", "list", "--json"), &volumes)
	tests := []struct{ point, want string }{
		{"/srv/thin-one", "mount /srv/thin-one > filesystem ext4 > lvm vg/thin-one thin > lvm vg/pool thin-pool > (lvm vg/pool_tmeta linear > disk DISK, lvm vg/pool_tdata linear > disk DISK1)"},
		{"/srv/stripes", "mount /srv/stripes > filesystem xfs > lvm vg/stripes striped > (disk DISK1, disk DISK2)"},
		{"/srv/inner", "mount /srv/inner > filesystem ext4 > lvm inner/lv linear > loop " + strings.TrimPrefix(loop, "/dev/") + " > file /srv/stripes/a pv.img > " +
			"mount /srv/stripes > filesystem xfs > lvm vg/stripes striped > (disk DISK1, disk DISK2)"},
		{"/srv/btrfs", "mount /srv/btrfs > filesystem btrfs > (lvm vg/b1 linear > disk DISK2, lvm vg/b2 linear > disk DISK2)"},
	}
	for _, tt := range tests {
		var got string
		for _, v := range volumes {
			if v.Stack != nil && v.Stack.Name == tt.point {
				got = line(*v.Stack)
			}
		}
		want := strings.ReplaceAll(tt.want, "DISK1", strings.TrimPrefix(disks[0], "/dev/"))
		want = strings.ReplaceAll(want, "DISK2", strings.TrimPrefix(disks[1], "/dev/"))
		if i := strings.Index(want, "DISK"); i >= 0 { // LVM puts the pool's metadata where it likes
			for _, disk := range disks[:2] {
				if w := strings.ReplaceAll(want, "DISK", strings.TrimPrefix(disk, "/dev/")); w == got {
					want = w
				}
			}
		}
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", tt.point, got, want)
		}
	}

	var one api.Volume
	decode(t, must(t, "volume", "show", "/dev/vg/thin-one", "--json"), &one) // by a link that is not the daemon's name for it
	if one.Name != "vg/thin-one" || one.Provider != "thin" || !one.Freezable || len(one.Stack.MountPoints) != 2 || one.Size != 200<<20 {
		t.Errorf("got %+v", one)
	}
	t.Log("\n" + must(t, "volume", "list", "--explain"))
}

// line writes a tree in one line.
func line(n api.Node) string {
	words := append([]string{string(n.Kind), n.Name}, n.Targets...)
	var below []string
	for _, b := range n.Below {
		below = append(below, line(b))
	}
	text := strings.Join(words, " ")
	switch len(below) {
	case 0:
		return text
	case 1:
		return text + " > " + below[0]
	}
	return text + " > (" + strings.Join(below, ", ") + ")"
}
