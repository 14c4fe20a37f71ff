//go:build lab

package system

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

// Without udev the names of exposed snapshots are there all the same, lead to the right devices, and go with them.
func TestNamesWithoutUdev(t *testing.T) {
	withoutUdev(t)
	vols := append(thinVolumes(t, 1), dmVolume(t, "plain", 64))
	labtest.Run(t, "lvcreate", "-qq", "-y", "-an", "-Zn", "-Wn", "-L", "16m", "-n", "raw", "vg")
	labtest.Run(t, "lvchange", "-ay", "vg/raw")
	labtest.Run(t, "dd", "if=/dev/urandom", "of=/dev/vg/raw", "bs=1M", "count=3", "conv=fsync", "status=none")
	want := checksum(t, "/dev/vg/raw")
	if out, status := labtest.Try(t, "pgrep", "-f", "systemd-udevd"); status == 0 {
		t.Fatalf("udev runs: %s", out)
	}

	m := create(t, append(points(vols), "/dev/vg/raw", "--consistency", "crash")...)
	dir := filepath.Join("/dev/fermata", m.ID)
	names := func() (out []string) {
		entries, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, e := range entries {
			out = append(out, e.Name())
		}
		return out
	}
	if got := names(); len(got) > 0 {
		t.Errorf("before anything is exposed: %v", got)
	}
	for _, last := range []bool{false, true} {
		var mounts []api.Mount
		decode(t, must(t, "snapshot", "mount", m.ID, "--json"), &mounts)
		if got := names(); !slices.Equal(got, []string{"@vg-raw", "srv-plain", "srv-v1"}) {
			t.Errorf("got %v", got)
		}
		for _, v := range vols {
			var link, mounted unix.Stat_t
			path := filepath.Join(dir, "srv-"+v.LV)
			i := slices.IndexFunc(mounts, func(x api.Mount) bool { return x.MountPoint == v.Point && x.Link == path })
			if i < 0 {
				t.Fatalf("no mount of %s by %s: %+v", v.Point, path, mounts)
			}
			if err := unix.Stat(path, &link); err != nil || link.Mode&unix.S_IFMT != unix.S_IFBLK {
				t.Fatalf("%s: mode %o, %v", path, link.Mode, err)
			}
			if err := unix.Stat(mounts[i].Path, &mounted); err != nil || mounted.Dev != link.Rdev {
				t.Errorf("%s is device %x, mounted is %x, %v", path, link.Rdev, mounted.Dev, err)
			}
		}
		if got := checksum(t, filepath.Join(dir, "@vg-raw")); got != want {
			t.Errorf("@vg-raw has %s, want %s", got, want)
		}
		if last { // deleting it unmounts it
			must(t, "snapshot", "delete", m.ID)
		} else {
			must(t, "snapshot", "umount", m.ID)
		}
		if _, err := os.Lstat(dir); !os.IsNotExist(err) {
			t.Errorf("%v are left, %v", names(), err)
		}
	}
}
