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
//
// Fermata's sets leave the same volume as it was: it can be unmounted and mounted again.
func TestTrap(t *testing.T) {
	vols := append(thinVolumes(t, 1), labtest.Thin(t, "vg", "x", "320m", "xfs"))
	for range 3 {
		create(t, points(vols)...)
	}
	for _, v := range vols {
		mountable(t, v)
	}
	old := strings.HasPrefix(release(t), "5.") || strings.HasPrefix(release(t), "6.1.")
	for _, v := range vols {
		labtest.Run(t, "fsfreeze", "-f", v.Point)
		// lvcreate's own files are on the root, which is not frozen.
		out, status := labtest.Try(t, "lvcreate", "-s", "-n", "trap", v.VG+"/"+v.LV)
		labtest.Run(t, "fsfreeze", "-u", v.Point)
		if old {
			if status == 0 || !strings.Contains(out, "Device or resource busy") {
				t.Errorf("lvcreate over the frozen %s: exit status %d\n%s", v.FSType, status, out)
			}
			continue
		}
		if status != 0 {
			t.Fatalf("lvcreate over the frozen %s: exit status %d\n%s", v.FSType, status, out)
		}
		labtest.Run(t, "umount", v.Point)
		if err := unix.Mount(v.Device(), v.Point, v.FSType, 0, ""); err != unix.EBUSY {
			t.Errorf("after it, mounting %s says %v; it is expected to say %v", v.FSType, err, unix.EBUSY)
		}
		labtest.Run(t, "lvremove", "-qq", "-f", "vg/trap")
	}
	if !old {
		return // these volumes are lost to their users
	}
	create(t, points(vols)...)
	for _, v := range vols {
		mountable(t, v)
	}
}

// mountable fails the test unless v can be written to, unmounted and mounted again, and is not frozen.
func mountable(t *testing.T, v labtest.Volume) {
	t.Helper()
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

func release(t testing.TB) string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	return unix.ByteSliceToString(u.Release[:])
}
