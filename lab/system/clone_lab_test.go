//go:build lab

package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

// fill writes a file of random bytes and one of zeros, and returns the checksums of all files of a directory.
func fill(t testing.TB, dir string) string {
	t.Helper()
	labtest.Run(t, "sh", "-c", "head -c 60M /dev/urandom >"+dir+"/random && head -c 30M /dev/zero >"+dir+"/zeros && sync")
	return sums(t, dir)
}

func sums(t testing.TB, dir string) string {
	t.Helper()
	return labtest.Run(t, "sh", "-c", "cd "+dir+" && sha256sum random zeros")
}

// awaitClone waits until the only set that is left is a complete clone.
func awaitClone(t testing.TB) api.Manifest {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(300 * time.Millisecond) {
		list := sets(t)
		if len(list) == 1 && list[0].State == api.Complete && list[0].CloneOf != "" {
			return list[0]
		}
	}
	t.Fatalf("no clone: %+v\n%s", sets(t), journal(t))
	return api.Manifest{}
}

// percents follows a copy until it has done so much, and checks that it only grows.
func percents(t testing.TB, until int) {
	t.Helper()
	last := 0
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for _, m := range sets(t) {
			if m.Progress == nil {
				continue
			}
			if p := m.Progress.Percent(); p < last || p > 100 {
				t.Fatalf("%d%% after %d%%", p, last)
			} else if last = p; p >= until {
				return
			}
		}
	}
	t.Fatalf("the copy is at %d%%\n%s", last, journal(t))
}

// A clone survives the daemon's death half-way, its origin's deletion, and is what the origin was.
func TestClone(t *testing.T) {
	vols := thinVolumes(t, 2)
	labtest.CheckDirectory(t, vols[1].Point)
	want := fill(t, vols[0].Point)

	var begun api.Manifest
	decode(t, must(t, "snapshot", "create", vols[0].Point, "--method", "clone", "--clone-to", vols[1].Point, "--clone-rate", "24M", "--clone-no-wait", "--json"), &begun)
	t.Cleanup(func() { fermata(t, "snapshot", "delete", begun.ID) })
	if begun.State != api.Cloning || begun.CloneOf == "" {
		t.Fatalf("got %+v", begun)
	}
	if a := fermata(t, "snapshot", "delete", begun.CloneOf); a.status == 0 || !strings.Contains(a.stderr, "being copied") {
		t.Errorf("what is copied was deleted: %+v", a)
	}
	if a := fermata(t, "snapshot", "mount", begun.ID); a.status == 0 {
		t.Errorf("an unfinished clone was mounted: %+v", a)
	}
	if a := fermata(t, "status", "--busy", "stop"); a.status != 75 || !strings.Contains(a.stdout, "set "+begun.CloneOf+" is being copied") {
		t.Errorf("who would remove the daemon hears %+v", a)
	}
	must(t, "status", "--busy", "restart")
	fill(t, vols[0].Point) // after the instant
	percents(t, 20)
	labtest.Run(t, "systemctl", "kill", "-s", "KILL", "fermatad")
	percents(t, 30) // whoever asks starts the daemon again
	labtest.Run(t, "systemctl", "restart", "fermatad")
	m := awaitClone(t)
	if m.ID != begun.ID || !m.Created.Equal(begun.Created) || m.Volumes[0].Provider != "clone" || m.Consistency != begun.Consistency {
		t.Errorf("got %+v of %+v", m, begun)
	}
	if out := labtest.Run(t, "lvs", "--noheadings", "-o", "lv_name", "vg"); strings.Contains(out, begun.CloneOf) {
		t.Errorf("what was copied is still there:\n%s", out)
	}

	labtest.Run(t, "umount", vols[0].Point)
	labtest.Run(t, "lvremove", "-qq", "-y", "vg/v1")
	var mounts []api.Mount
	decode(t, must(t, "snapshot", "mount", m.ID, "--json"), &mounts)
	if got := sums(t, mounts[0].Path); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if err := os.WriteFile(filepath.Join(mounts[0].Path, "x"), nil, 0o600); err == nil {
		t.Error("the clone can be written to")
	}
	must(t, "snapshot", "umount", m.ID)
	must(t, "snapshot", "mount", m.ID)
	must(t, "snapshot", "delete", m.ID) // unmounts it first
	if left, _ := filepath.Glob(vols[1].Point + "/2*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// What is cancelled leaves nothing; a copy that is not what was read leaves the set that it was to be made of.
func TestCloneUndone(t *testing.T) {
	vols := thinVolumes(t, 2)
	labtest.CheckDirectory(t, vols[1].Point)
	fill(t, vols[0].Point)
	begin := func() (m api.Manifest) {
		t.Helper()
		decode(t, must(t, "snapshot", "create", vols[0].Point, "--method", "clone", "--clone-to", vols[1].Point, "--clone-rate", "24M", "--clone-no-wait", "--json"), &m)
		return m
	}
	nothing := func() {
		t.Helper()
		for end := time.Now().Add(time.Minute); len(sets(t)) > 0 && time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		}
		if list := sets(t); len(list) > 0 {
			t.Errorf("left: %+v", list)
		}
		if left, _ := filepath.Glob(vols[1].Point + "/2*"); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	m := begin()
	percents(t, 10)
	must(t, "snapshot", "delete", m.ID)
	nothing()

	m = begin()
	percents(t, 20)
	image, err := os.OpenFile(filepath.Join(vols[1].Point, m.ID, "0.img"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := image.WriteAt([]byte("flipped"), 1<<20); err != nil {
		t.Fatal(err)
	}
	image.Close()
	eventually(t, "the copy is given up", func() bool { list := sets(t); return len(list) == 1 && list[0].ID == m.CloneOf })
	if text := strings.Join(sets(t)[0].Reasons, "\n"); !strings.Contains(text, "the copy differs from the snapshot") {
		t.Errorf("the set that is kept says %q", text)
	}
	must(t, "snapshot", "delete", m.CloneOf)
	nothing()
	if log := journal(t); !strings.Contains(log, "differs from the snapshot between byte 0 and 4194304") {
		t.Errorf("nobody was told:\n%s", log)
	}

	if a := fermata(t, "snapshot", "create", vols[0].Point, "--method", "clone", "--clone-to", vols[0].Point); a.status != 2 || !strings.Contains(a.stderr, "which is to be cloned") {
		t.Errorf("a clone beside its origin: %+v", a)
	}
	if err := os.Chmod(vols[1].Point, 0o777); err != nil {
		t.Fatal(err)
	}
	if a := fermata(t, "snapshot", "create", vols[0].Point, "--method", "clone", "--clone-to", vols[1].Point); a.status != 2 || !strings.Contains(a.stderr, "lets others than root write") {
		t.Errorf("a clone where others can write: %+v", a)
	}
	nothing()
}

// A clone of a plain volume, waited for.
func TestCloneThick(t *testing.T) {
	vols := thinVolumes(t, 1)
	labtest.Run(t, "lvcreate", "-qq", "-y", "-L", "160m", "-n", "plain", "vg")
	labtest.Run(t, "mkfs.ext4", "-q", "/dev/vg/plain")
	v := labtest.Volume{VG: "vg", LV: "plain", FSType: "ext4", Point: "/srv/plain"}
	if err := os.MkdirAll(v.Point, 0o755); err != nil {
		t.Fatal(err)
	}
	v.Mount(t)
	t.Cleanup(func() {
		labtest.Run(t, "umount", v.Point)
		os.Remove(v.Point)
		labtest.Run(t, "lvremove", "-qq", "-y", "vg/plain")
	})
	labtest.CheckDirectory(t, vols[0].Point)
	want := fill(t, v.Point)
	m := create(t, v.Point, "--method", "clone", "--clone-to", vols[0].Point)
	if m.State != api.Complete || m.CloneOf == "" || m.Volumes[0].Size != 160<<20 {
		t.Fatalf("got %+v", m)
	}
	if list := sets(t); len(list) != 1 || list[0].ID != m.ID {
		t.Errorf("got %+v", list)
	}
	var mounts []api.Mount
	decode(t, must(t, "snapshot", "mount", m.ID, "--json"), &mounts)
	if got := sums(t, mounts[0].Path); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
