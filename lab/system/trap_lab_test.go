//go:build lab

package system

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/lab/labtest"
)

// The recipe that everyone copies, fsfreeze and then lvcreate -s, fails on Linux before 6.8, and poisons the volume from
// there on until a fix of 2026: it can never be mounted again. If this test fails on a kernel, that kernel is fixed.
func TestTrap(t *testing.T) {
	vols := thinVolumes(t, 1)
	v := vols[0]
	labtest.Run(t, "fsfreeze", "-f", v.Point)
	// Not to write to anything that is frozen, lvcreate must not touch the volume; its own files are on the root.
	out, status := labtest.Try(t, "lvcreate", "-s", "-n", "trap", "vg/v1")
	labtest.Run(t, "fsfreeze", "-u", v.Point)
	old := strings.HasPrefix(release(t), "5.") || strings.HasPrefix(release(t), "6.1.")
	if old {
		if status == 0 || !strings.Contains(out, "Device or resource busy") {
			t.Errorf("lvcreate over a frozen filesystem: exit status %d\n%s", status, out)
		}
		return
	}
	if status != 0 {
		t.Fatalf("lvcreate over a frozen filesystem: exit status %d\n%s", status, out)
	}
	labtest.Run(t, "umount", v.Point)
	if err := unix.Mount(v.Device(), v.Point, v.FSType, 0, ""); err != unix.EBUSY {
		t.Errorf("after it, mounting says %v; it is expected to say %v", err, unix.EBUSY)
	}
	labtest.Run(t, "lvremove", "-qq", "-f", "vg/trap")
}

// Fermata's set leaves the volumes as they were: they can be unmounted and mounted again.
func TestNoTrap(t *testing.T) {
	vols := append(thinVolumes(t, 1), labtest.Thin(t, "vg", "x", "320m", "xfs"))
	for range 3 {
		create(t, points(vols)...)
	}
	for _, v := range vols {
		v.Writable(t)
		labtest.Run(t, "umount", v.Point)
		v.Mount(t)
		v.Writable(t)
		fd, err := unix.Open(v.Point, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := fsfreeze.Thaw(fd); err != unix.EINVAL {
			t.Errorf("%s was frozen: %v", v.Point, err)
		}
		unix.Close(fd)
	}
}

func release(t testing.TB) string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	return unix.ByteSliceToString(u.Release[:])
}
