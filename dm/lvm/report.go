package lvm

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/fermata-project/fermata/dm"
)

// Inventory is what LVM knows about this host, read in one process and so at one moment for each volume group.
type Inventory struct {
	VGs []VG
	LVs []LV // of all groups, internal ones included
	PVs []PV // those of no group have an empty VG
}

// VG is a volume group. Sizes are in bytes.
type VG struct {
	Name, UUID string
	Size, Free uint64
	ExtentSize uint64
	// ExtentCount and FreeCount are in extents.
	ExtentCount, FreeCount uint64
	Tags                   []string
	Shared                 bool   // locked by lvmlockd for several hosts, or clustered: the local lock file protects nothing
	LockType               string // of lvmlockd: "sanlock", "dlm"; empty for a local group
}

// LV is a logical volume. Sizes are in bytes; pointers are nil where a value makes no sense or is not known.
type LV struct {
	VG, Name string
	UUID     string
	VGUUID   string
	Path     string // "/dev/vg/lv"; empty for internal volumes
	DMPath   string // "/dev/mapper/vg-lv"
	Size     uint64 // of thick snapshots: that of the copy-on-write area
	Attr     Attr
	Tags     []string
	Created  time.Time // zero if not known

	SegType string // of the first segment: "linear", "striped", "thin", "thin-pool", "snapshot"
	Layout  []string
	Role    []string

	Pool, PoolUUID     string  // of thin volumes
	Origin, OriginUUID string  // of snapshots, thin or thick
	OriginSize         uint64  // of thick snapshots and their origins: the size of the image
	ThinID             *uint32 // device id of thin volumes in their pool
	TransactionID      *uint64 // of pools: what the kernel's has to be; of thin volumes: that of their creation
	ChunkSize          uint64  // block size of pools, chunk size of thick snapshots
	MetadataSize       uint64  // of pools

	DataPercent     *float64 // 0 to 100, of active pools, thin volumes and thick snapshots
	MetadataPercent *float64 // 0 to 100, of active pools

	KernelMajor, KernelMinor int // -1 if inactive
	Active                   bool
	SkipActivation           bool
}

// PV is a physical volume.
type PV struct {
	Name string // "/dev/sda2"
	VG   string
	UUID string
}

// FullName is "vg/lv", as the verbs want it.
func (lv LV) FullName() string { return lv.VG + "/" + lv.Name }

// FullUUIDForDM is the device-mapper UUID of the volume's top device; layers below it have a suffix such as "-real".
func (lv LV) FullUUIDForDM() string {
	return "LVM-" + strings.ReplaceAll(lv.VGUUID, "-", "") + strings.ReplaceAll(lv.UUID, "-", "")
}

// DMName is the device-mapper name of the volume's top device.
func (lv LV) DMName() string { return dm.JoinLVMName(lv.VG, lv.Name, "") }

// Dev is the volume's device number; false if it is inactive.
func (lv LV) Dev() (dm.Dev, bool) {
	if lv.KernelMajor < 0 || lv.KernelMinor < 0 {
		return 0, false
	}
	return dm.MkDev(uint32(lv.KernelMajor), uint32(lv.KernelMinor)), true
}

// LV finds a volume by the names of group and volume.
func (inv *Inventory) LV(vg, name string) (LV, bool) {
	for _, lv := range inv.LVs {
		if lv.VG == vg && lv.Name == name {
			return lv, true
		}
	}
	return LV{}, false
}

// LVByDM finds the volume whose top device has a device-mapper UUID.
func (inv *Inventory) LVByDM(uuid string) (LV, bool) {
	for _, lv := range inv.LVs {
		if lv.FullUUIDForDM() == uuid {
			return lv, true
		}
	}
	return LV{}, false
}

// VG finds a volume group by name.
func (inv *Inventory) VG(name string) (VG, bool) {
	for _, vg := range inv.VGs {
		if vg.Name == name {
			return vg, true
		}
	}
	return VG{}, false
}

// The columns that reports ask for; the json tags in decode.go repeat them.
const (
	vgColumns = "vg_uuid,vg_name,vg_size,vg_free,vg_extent_size,vg_extent_count,vg_free_count,vg_tags,vg_shared," +
		"vg_lock_type,vg_clustered"
	lvColumns = "lv_uuid,lv_name,lv_path,lv_dm_path,lv_size,lv_attr,lv_tags,lv_time,pool_lv,pool_lv_uuid,origin," +
		"origin_uuid,origin_size,lv_layout,lv_role,lv_skip_activation,lv_kernel_major,lv_kernel_minor,data_percent," +
		"metadata_percent,lv_metadata_size"
	segColumns = "lv_uuid,segtype,thin_id,transaction_id,chunk_size"
	pvColumns  = "pv_name,pv_uuid"
)

// Report reads the inventory of the named volume groups, or of all. It waits for LVM's read lock of each.
func (l *LVM) Report(ctx context.Context, vgs ...string) (*Inventory, error) {
	args := []string{"--reportformat", "json", "--units", "b", "--nosuffix", "--all",
		"--configreport", "vg", "-o", vgColumns,
		"--configreport", "lv", "-o", lvColumns,
		"--configreport", "seg", "-o", segColumns,
		"--configreport", "pv", "-o", pvColumns,
		"--configreport", "pvseg", "-o", "pv_uuid"}
	for _, vg := range vgs {
		if err := CheckName(vg); err != nil {
			return nil, fmt.Errorf("cannot report on volume groups: %w", err)
		}
	}
	read := func() (*Inventory, error) {
		out, err := l.run(ctx, "fullreport", append(args, vgs...)...)
		if err != nil {
			return nil, err
		}
		return parseReport(out)
	}
	if len(vgs) > 0 {
		return read()
	}
	return once(ctx, read)
}
