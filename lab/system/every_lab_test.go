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

func checksum(t testing.TB, path string) string {
	t.Helper()
	sum, _, _ := strings.Cut(labtest.Run(t, "sha256sum", path), " ")
	return sum
}

// One set of every kind: thin with ext4 and with btrfs, thick with XFS, device-mapper without LVM with ext4, and a volume
// without a filesystem. It has what each of them held at the instant, is mounted as one tree, and leaves everything as it
// was when it is deleted.
func TestEveryKind(t *testing.T) {
	vols := thinVolumes(t, 1)
	vols = append(vols, thickVolume(t, "x", "320m", "xfs"), dmVolume(t, "plain", 64), labtest.Thin(t, "vg", "b", "300m", "btrfs"))
	labtest.Run(t, "lvcreate", "-qq", "-y", "-L", "32m", "-n", "raw", "vg")
	scribble := func() { // fills each with something new
		for _, v := range vols {
			labtest.Run(t, "dd", "if=/dev/urandom", "of="+filepath.Join(v.Point, "f"), "bs=1M", "count=3", "status=none")
		}
		labtest.Run(t, "dd", "if=/dev/urandom", "of=/dev/vg/raw", "bs=1M", "count=3", "seek=2", "conv=fsync", "status=none")
	}
	scribble()
	want := map[string]string{"raw": checksum(t, "/dev/vg/raw")}
	for _, v := range vols {
		want[v.LV] = checksum(t, filepath.Join(v.Point, "f"))
	}
	unchanged := labtest.Unchanged(t)

	m := create(t, append(points(vols), "/dev/vg/raw", "--consistency", "crash")...)
	if m.Consistency != api.Crash || len(m.Reasons) != 1 || m.State != api.Complete || len(m.Volumes) != 5 {
		t.Fatalf("got %+v", m)
	}
	for i, provider := range []string{"thin", "thick", "dm", "thin", "thick"} {
		if v := m.Volumes[i]; v.Provider != provider || v.Frozen != (i < 4) || v.Volatile != (provider == "dm") {
			t.Errorf("volume %d: got %+v, want provider %s", i, v, provider)
		}
	}
	scribble()
	must(t, "snapshot", "mount", m.ID)
	for _, v := range vols {
		if got := checksum(t, filepath.Join(mounted(t, m.ID, v.Point), "f")); got != want[v.LV] {
			t.Errorf("%s: got %s, want %s", v.Point, got, want[v.LV])
		}
		if got := checksum(t, filepath.Join(v.Point, "f")); got == want[v.LV] {
			t.Errorf("%s: was not written to", v.Point)
		}
	}
	if got := checksum(t, "/dev/"+m.Volumes[4].Name); got != want["raw"] {
		t.Errorf("raw: got %s, want %s", got, want["raw"])
	}
	links, err := os.ReadDir(filepath.Join("/dev/fermata", m.ID))
	if err != nil || len(links) < len(vols) {
		t.Errorf("links: %v, %v", links, err)
	}
	must(t, "snapshot", "umount", m.ID)
	must(t, "snapshot", "delete", m.ID)
	unchanged()
	for _, v := range vols {
		v.Writable(t)
	}
}

// A btrfs by provider dm: the subvolume that was asked for is what is mounted, whoever remembers the set.
func TestSubvolumeByDM(t *testing.T) {
	thinVolumes(t, 0)
	plain := dmVolume(t, "plain", 160)
	labtest.Run(t, "umount", plain.Point)
	t.Cleanup(func() { labtest.Run(t, "mkfs.ext4", "-q", "-F", plain.Device()); plain.Mount(t) })
	labtest.Run(t, "mkfs.btrfs", "-q", "-f", plain.Device())
	at(t, "/srv/top", plain.Device())
	labtest.Run(t, "btrfs", "subvolume", "create", "/srv/top/@home")
	labtest.Run(t, "umount", "/srv/top")
	home := func() { labtest.Run(t, "mount", "-o", "subvol=@home", plain.Device(), "/srv/top") }
	home()
	write(t, "/srv/top/f", "home")
	m := create(t, "/srv/top")
	labtest.Run(t, "umount", "/srv/top") // before Linux 6.7 two btrfs of one id cannot be mounted
	defer home()                         // for what unmounts it
	labtest.Run(t, "rm", "-r", "/var/lib/fermata")
	labtest.Run(t, "systemctl", "restart", "fermatad")
	must(t, "snapshot", "mount", m.ID)
	wantFile(t, filepath.Join(mounted(t, m.ID, "/srv/top"), "f"), "home")
	must(t, "snapshot", "umount", m.ID)
	must(t, "snapshot", "delete", m.ID)
}
