//go:build lab

package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

// groupInFile makes volume group inner on a file of so many MiB, with plain volume inner/lv of 64 MiB, mounted at
// /srv/inner.
func groupInFile(t *testing.T, file, size string) {
	t.Helper()
	labtest.Run(t, "truncate", "-s", size, file)
	loop := strings.TrimSpace(labtest.Run(t, "losetup", "--show", "-f", file))
	t.Cleanup(func() {
		labtest.Run(t, "losetup", "-d", loop)
		eventually(t, "the loop device is detached", func() bool { _, status := labtest.Try(t, "losetup", loop); return status != 0 })
	})
	labtest.Run(t, "vgcreate", "-qq", "-y", "inner", loop)
	t.Cleanup(func() { labtest.Run(t, "vgremove", "-qq", "-ff", "-y", "inner") })
	labtest.Run(t, "lvcreate", "-qq", "-y", "-L", "64m", "-n", "lv", "inner")
	labtest.Run(t, "mkfs.ext4", "-q", "/dev/inner/lv")
	at(t, "/srv/inner", "/dev/inner/lv")
}

// A volume group in a file: its plain volumes are taken beside the filesystem that holds the file, and without it; its thin
// ones not beside it, for their capture writes to what is held.
func TestGroupInFile(t *testing.T) {
	vols := thinVolumes(t, 2)
	holder, other := vols[0].Point, vols[1].Point
	groupInFile(t, filepath.Join(holder, "disk.img"), "180M")
	for _, set := range [][]string{{"/srv/inner", other}, {"/srv/inner", holder}, {holder, "/srv/inner", other}} {
		t.Run(strings.Join(set, " "), func(t *testing.T) {
			unchanged := labtest.Unchanged(t)
			for _, point := range set {
				write(t, filepath.Join(point, "f"), "1")
			}
			m := create(t, set...)
			for _, point := range set {
				write(t, filepath.Join(point, "f"), "2")
			}
			if m.State != api.Complete || m.Consistency != api.Filesystem || len(m.Volumes) != len(set) {
				t.Errorf("got %+v", m)
			}
			for _, v := range m.Volumes {
				if want := map[bool]string{true: "thick", false: "thin"}[v.MountPoint == "/srv/inner"]; v.Provider != want || !v.Frozen || v.Inside != "" {
					t.Errorf("got %+v", v)
				}
			}
			must(t, "snapshot", "mount", m.ID)
			for _, point := range set {
				wantFile(t, filepath.Join(mounted(t, m.ID, point), "f"), "1")
				wantFile(t, filepath.Join(point, "f"), "2")
			}
			must(t, "snapshot", "delete", m.ID)
			unchanged()
		})
	}
	labtest.Run(t, "lvcreate", "-qq", "-y", "-L", "40m", "--thinpool", "pool", "--poolmetadatasize", "4m", "inner")
	labtest.Run(t, "lvcreate", "-qq", "-y", "-V", "32m", "--thin", "-n", "thin", "inner/pool")
	labtest.Run(t, "mkfs.ext4", "-q", "/dev/inner/thin")
	at(t, "/srv/innerthin", "/dev/inner/thin")
	m := create(t, "/srv/innerthin", other)
	must(t, "snapshot", "delete", m.ID)
	unchanged := labtest.Unchanged(t)
	a := fermata(t, "snapshot", "create", "/srv/innerthin", holder)
	if a.status != 2 || !strings.Contains(a.stderr, "/srv/innerthin is captured by writing to its pool, and it rests on "+holder+", which is held at that moment (take them in two sets)") {
		t.Errorf("got %+v", a)
	}
	unchanged()
}

// A filesystem in a file that no provider takes is taken with the filesystem that holds the file, and not without it. Two
// mounts of one filesystem, and a bind mount of a directory of it, are one volume.
func TestOneVolume(t *testing.T) {
	vols := thinVolumes(t, 2)
	holder := vols[0].Point
	image := filepath.Join(holder, "disk.img")
	labtest.Run(t, "truncate", "-s", "16M", image)
	labtest.Run(t, "mkfs.ext4", "-q", image)
	at(t, "/srv/image", "-o", "loop", image)
	a := fermata(t, "snapshot", "create", "/srv/image", vols[1].Point)
	if a.status != 2 || !strings.Contains(a.stderr, "cannot take /srv/image: no provider takes it") || !strings.Contains(a.stderr, "dm: not a device-mapper volume") {
		t.Errorf("got %+v", a)
	}
	if err := os.Mkdir(filepath.Join(holder, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	at(t, "/srv/second", vols[0].Device())
	at(t, "/srv/bound", "--bind", filepath.Join(holder, "dir"))
	m := create(t, "/srv/second", holder, "/srv/bound", "/srv/image")
	if len(m.Volumes) != 2 || m.Volumes[0].MountPoint != holder || m.Volumes[1].Inside != "/srv/second" {
		t.Errorf("got %+v", m.Volumes)
	}
}
