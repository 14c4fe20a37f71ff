//go:build lab

package system

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

// A device-mapper volume without LVM and a thin one in one set, with a daemon that dies, and udev, which must not take
// anything of it for a copy of the volume.
func TestDMVolume(t *testing.T) {
	thin := thinVolumes(t, 1)[0]
	disk := labtest.Disks(t)[1]
	device := func(name string, start, mebibytes int) string {
		labtest.Run(t, "dmsetup", "create", name, "--table", fmt.Sprintf("0 %d linear %s %d", mebibytes*2048, disk, start*2048))
		t.Cleanup(func() { labtest.Run(t, "dmsetup", "remove", "--retry", name) })
		labtest.Run(t, "mkfs.ext4", "-q", "/dev/mapper/"+name)
		return "/dev/mapper/" + name
	}
	at(t, "/srv/data", device("data", 1, 128))
	at(t, "/srv/storage", device("storage", 129, 255))
	table := labtest.Run(t, "dmsetup", "table", "data")
	labtest.Run(t, "udevadm", "trigger", "--settle", "/dev/mapper/data")
	byUUID := "/dev/disk/by-uuid/" + strings.TrimSpace(labtest.Run(t, "blkid", "-s", "UUID", "-o", "value", "/dev/mapper/data"))
	link, err := os.Readlink(byUUID)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("a storage volume on another volume of the set", func(t *testing.T) {
		store := filepath.Join(thin.Point, "store")
		if err := os.Mkdir(store, 0o700); err != nil {
			t.Fatal(err)
		}
		configure(t, map[string]string{"providers.d/dm.yaml": "storage: " + store + "\n"})
		a := fermata(t, "snapshot", "create", "/srv/data", thin.Point)
		if a.status != 1 || !strings.Contains(a.stderr, "another storage volume") {
			t.Errorf("got %+v", a)
		}
	})
	configure(t, map[string]string{"providers.d/dm.yaml": "storage: /srv/storage\ncow: 50%\n"})
	for _, point := range []string{"/srv/data", thin.Point} {
		write(t, filepath.Join(point, "f"), "1")
	}
	m := create(t, "/srv/data", thin.Point)
	for _, point := range []string{"/srv/data", thin.Point} {
		write(t, filepath.Join(point, "f"), "2")
	}
	labtest.Run(t, "sync")
	labtest.Run(t, "systemctl", "kill", "--signal=KILL", "fermatad")
	must(t, "snapshot", "mount", m.ID)
	for _, point := range []string{"/srv/data", thin.Point} {
		wantFile(t, filepath.Join(mounted(t, m.ID, point), "f"), "1")
		wantFile(t, filepath.Join(point, "f"), "2")
	}
	must(t, "snapshot", "resize", m.ID, "/srv/data", "+8M") // udev is told of that too
	labtest.Run(t, "udevadm", "trigger", "--settle", "--subsystem-match=block")
	if now, err := os.Readlink(byUUID); err != nil || now != link {
		t.Errorf("%s led to %s, and now to %s (%v)", byUUID, link, now, err)
	}
	must(t, "snapshot", "delete", m.ID)
	if now := labtest.Run(t, "dmsetup", "table", "data"); now != table {
		t.Errorf("table was %s, is %s", table, now)
	}
	if left, err := filepath.Glob("/srv/storage/data.*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	t.Run("on a storage device", func(t *testing.T) {
		labtest.Run(t, "dmsetup", "create", "spare", "--table", fmt.Sprintf("0 %d linear %s %d", 128*2048, disk, 384*2048))
		defer labtest.Run(t, "dmsetup", "remove", "--retry", "spare")
		labtest.Run(t, "blkdiscard", "--zeroout", "/dev/mapper/spare")
		configure(t, map[string]string{"providers.d/dm.yaml": "storage: /dev/mapper/spare\ncow: 50%\n"})
		m := create(t, "/srv/data", thin.Point)
		write(t, "/srv/data/f", "3")
		labtest.Run(t, "systemctl", "kill", "--signal=KILL", "fermatad")
		must(t, "snapshot", "mount", m.ID)
		wantFile(t, filepath.Join(mounted(t, m.ID, "/srv/data"), "f"), "2")
		must(t, "snapshot", "resize", m.ID, "/srv/data", "+8M")
		var pools []api.Pool
		decode(t, must(t, "pool", "list", "--json"), &pools)
		i := slices.IndexFunc(pools, func(p api.Pool) bool { return p.Provider == "dm" })
		if i < 0 || pools[i].Name != "/dev/mapper/spare" || pools[i].Size != 126<<20 || pools[i].Used != 72<<20 || pools[i].Mode != "rw" {
			t.Errorf("pools: %+v", pools)
		}
		must(t, "snapshot", "delete", m.ID)
		if now := labtest.Run(t, "dmsetup", "table", "data"); now != table {
			t.Errorf("table was %s, is %s", table, now)
		}
		if left, err := filepath.Glob("/run/fermata/dm/data.*"); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
}
