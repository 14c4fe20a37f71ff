//go:build lab

package system

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/fermata-project/fermata/lab/labtest"
	"github.com/fermata-project/fermata/lab/udev"
)

// dmVolume makes a device-mapper volume without LVM on the second disk, of so many MiB, with ext4, mounted at /srv/NAME; and
// a storage volume for provider dm beside it.
func dmVolume(t testing.TB, name string, size int) labtest.Volume {
	t.Helper()
	disk := labtest.Disks(t)[1]
	made := func(name string, start, size int) labtest.Volume {
		v := labtest.Volume{VG: "mapper", LV: name, FSType: "ext4", Point: filepath.Join("/srv", name)}
		labtest.Run(t, "dmsetup", "create", name, "--verifyudev", "--table", fmt.Sprintf("0 %d linear %s %d", size*2048, disk, start*2048))
		t.Cleanup(func() { labtest.Run(t, "dmsetup", "remove", "--retry", "--verifyudev", name) })
		labtest.Run(t, "mkfs.ext4", "-q", v.Device())
		if err := os.MkdirAll(v.Point, 0o700); err != nil {
			t.Fatal(err)
		}
		v.Mount(t)
		t.Cleanup(func() {
			labtest.Run(t, "umount", v.Point)
			os.Remove(v.Point)
		})
		return v
	}
	storage := made("storage", 0, 400)
	labtest.CheckDirectory(t, storage.Point)
	configure(t, map[string]string{"providers.d/dm.yaml": "storage: " + storage.Point + "\ncow: 32M\n"})
	return made(name, 400, size)
}

// withoutUdev stops udev for the duration of a test that takes many sets. Call it before there are volumes.
func withoutUdev(t testing.TB) {
	t.Helper()
	start, err := udev.Stop()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := start(); err != nil {
			t.Error(err)
		}
	})
}
