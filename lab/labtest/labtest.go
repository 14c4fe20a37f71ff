// Package labtest is for tests that run in a guest of the lab: it makes volumes to work on, and proves after each test
// that nothing was left behind.
package labtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Run runs a command and returns its standard output; its failure is the test's.
func Run(t testing.TB, argv ...string) string {
	t.Helper()
	out, status := Try(t, argv...)
	if status != 0 {
		t.Fatalf("%s: exit status %d:\n%s", strings.Join(argv, " "), status, out)
	}
	return out
}

// Try runs a command and returns its output, both streams together, and its exit status.
func Try(t testing.TB, argv ...string) (out string, status int) {
	t.Helper()
	c := exec.Command(argv[0], argv[1:]...)
	c.Env = append(os.Environ(), "LC_ALL=C")
	b, err := c.CombinedOutput()
	if c.ProcessState == nil {
		t.Fatalf("cannot run %s: %v", argv[0], err)
	}
	return string(b), c.ProcessState.ExitCode()
}

// Disks are the fresh disks that the lab gave this guest.
func Disks(t testing.TB) []string {
	t.Helper()
	disks := strings.Fields(os.Getenv("LAB_DISKS"))
	if len(disks) == 0 {
		t.Fatal("no disks: run this test by the lab (see CONTRIBUTING.md)")
	}
	return disks
}

// ThinVG makes volume group vg on the first disk, with thin pool vg/pool of the given size, and removes it after the
// test.
func ThinVG(t testing.TB, vg, poolSize string) {
	t.Helper()
	Run(t, "pvcreate", "-qq", "-ff", "-y", Disks(t)[0])
	Run(t, "vgcreate", "-qq", vg, Disks(t)[0])
	t.Cleanup(func() {
		Run(t, "vgremove", "-qq", "-ff", "-y", vg)
		Run(t, "pvremove", "-qq", "-ff", "-y", Disks(t)[0])
	})
	Run(t, "lvcreate", "-qq", "-y", "-L", poolSize, "--thinpool", vg+"/pool", "--poolmetadatasize", "16m")
}

// Volume is a thin volume with a filesystem, mounted.
type Volume struct {
	VG, LV, FSType, Point string
}

// Device is the volume's path.
func (v Volume) Device() string { return "/dev/" + v.VG + "/" + v.LV }

// Thin makes a thin volume in vg/pool with a filesystem and mounts it at /srv/LV.
func Thin(t testing.TB, vg, lv, size, fstype string) Volume {
	t.Helper()
	v := Volume{VG: vg, LV: lv, FSType: fstype, Point: filepath.Join("/srv", lv)}
	Run(t, "lvcreate", "-qq", "-y", "-V", size, "--thin", "-n", lv, vg+"/pool")
	Run(t, "mkfs."+fstype, "-q", v.Device())
	if err := os.MkdirAll(v.Point, 0o755); err != nil {
		t.Fatal(err)
	}
	v.Mount(t)
	t.Cleanup(func() {
		if _, status := Try(t, "mountpoint", "-q", v.Point); status == 0 {
			Run(t, "umount", v.Point)
		}
		os.Remove(v.Point)
	})
	return v
}

// Mount mounts the volume where it belongs.
func (v Volume) Mount(t testing.TB) {
	t.Helper()
	if err := unix.Mount(v.Device(), v.Point, v.FSType, 0, ""); err != nil {
		t.Fatalf("cannot mount %s: %v", v.Device(), err)
	}
}

// Writable fails the test if the volume cannot be written to within a second: it would be frozen, or suspended.
func (v Volume) Writable(t testing.TB) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		name := filepath.Join(v.Point, ".probe")
		f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_SYNC, 0o600)
		if err == nil {
			_, err = f.WriteString("x")
			f.Close()
			os.Remove(name)
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("cannot write to %s: %v", v.Point, err)
		}
	case <-time.After(time.Second):
		t.Errorf("%s cannot be written to: it is frozen or suspended", v.Point)
	}
}
