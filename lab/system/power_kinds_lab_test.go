//go:build lab

package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/lab/labtest"
)

// powerKind is a kind of sets that are taken while the power is cut.
type powerKind struct {
	name    string
	volumes []labtest.Volume
	// volatile: a reboot ends the sets.
	volatile bool
	create   func(t *testing.T)           // makes the volumes, without filesystems
	find     func(t *testing.T)           // has them again after a boot
	left     func(t *testing.T, sets int) // checks that nothing is there but what belongs to so many sets
	remove   func(t *testing.T)
}

func powerKindOf(t *testing.T) powerKind {
	t.Helper()
	switch name := os.Getenv("FERMATA_MATRIX_KINDS"); name {
	case "":
		return powerLVM
	case "dm":
		return powerDM
	default:
		t.Fatalf("there are no power cuts of kind %q", name)
	}
	panic("not reached")
}

var powerLVM = powerKind{
	name:    "thin and thick",
	volumes: []labtest.Volume{{VG: "vg", LV: "v1", FSType: "ext4", Point: "/srv/v1"}, {VG: "vg", LV: "k", FSType: "xfs", Point: "/srv/k"}},
	create: func(t *testing.T) {
		disk := labtest.Disks(t)[0]
		labtest.Run(t, "pvcreate", "-qq", "-ff", "-y", disk)
		labtest.Run(t, "vgcreate", "-qq", "vg", disk)
		labtest.Run(t, "lvcreate", "-qq", "-y", "-L", "600m", "--thinpool", "vg/pool", "--poolmetadatasize", "16m")
		labtest.Run(t, "lvcreate", "-qq", "-y", "-V", "200m", "--thin", "-n", "v1", "vg/pool")
		labtest.Run(t, "lvcreate", "-qq", "-y", "-L", "320m", "-n", "k", "vg")
	},
	find: func(t *testing.T) { labtest.Run(t, "vgchange", "-qq", "-ay", "vg") },
	left: func(t *testing.T, sets int) {
		if left := snapshotLVs(t); strings.Contains(left, "fermata.armed") || strings.Count(left+"\n", "\n") != 2*sets {
			t.Errorf("of %d sets there are\n%s", sets, left)
		}
	},
	remove: func(t *testing.T) { labtest.Run(t, "vgremove", "-qq", "-ff", "-y", "vg") },
}

// powerStore is the storage volume of provider dm.
var powerStore = labtest.Volume{VG: "mapper", LV: "storage", FSType: "ext4", Point: "/srv/storage"}

var powerDM = powerKind{
	name:     "dm",
	volumes:  []labtest.Volume{{VG: "mapper", LV: "plain", FSType: "ext4", Point: "/srv/plain"}},
	volatile: true,
	create: func(t *testing.T) {
		powerDevices(t)
		labtest.Run(t, "mkfs.ext4", "-q", powerStore.Device())
		storePower(t)
	},
	find: func(t *testing.T) {
		powerDevices(t)
		storePower(t)
	},
	left: func(t *testing.T, _ int) {
		if files, err := filepath.Glob(powerStore.Point + "/plain*"); err != nil || len(files) > 0 {
			t.Errorf("left on the storage volume: %v, %v", files, err)
		}
		if table := labtest.Run(t, "dmsetup", "table"); strings.Count(table, "\n") != 2 || strings.Count(table, " linear ") != 2 {
			t.Errorf("left in the kernel:\n%s", table)
		}
	},
	remove: func(t *testing.T) {
		labtest.Run(t, "umount", powerStore.Point)
		labtest.Run(t, "dmsetup", "remove", "--retry", "plain", "storage")
	},
}

func powerDevices(t *testing.T) {
	t.Helper()
	disk := labtest.Disks(t)[0]
	labtest.Run(t, "dmsetup", "create", "storage", "--table", fmt.Sprintf("0 %d linear %s 0", 400*2048, disk))
	labtest.Run(t, "dmsetup", "create", "plain", "--table", fmt.Sprintf("0 %d linear %s %d", 64*2048, disk, 400*2048))
}

// storePower mounts the storage volume, and tells the daemon.
func storePower(t *testing.T) {
	t.Helper()
	if err := os.MkdirAll(powerStore.Point, 0o700); err != nil {
		t.Fatal(err)
	}
	powerStore.Mount(t)
	configure(t, map[string]string{"providers.d/dm.yaml": "storage: " + powerStore.Point + "\ncow: 32M\n"})
}
