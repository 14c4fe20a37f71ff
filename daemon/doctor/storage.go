package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fermata-project/fermata/daemon/api"
)

// A pool that is this full is told of: sets need room in both areas.
const (
	fullData     = 0.80
	fullMetadata = 0.75
)

func tools(h Host) []Check {
	var checks []Check
	switch {
	case h.LVM.Program == "":
		checks = failure("lvm", "lvm is not installed", "install the package lvm2")
	case h.LVM.Version == "":
		checks = ok("lvm", h.LVM.Program)
	default:
		checks = ok("lvm", h.LVM.Program+", version "+h.LVM.Version)
	}
	if h.LVM.ThinCheck == "" {
		return append(checks, warning("thin_check", "not installed: LVM cannot activate a thin pool that it must check", "install the package thin-provisioning-tools")...)
	}
	return append(checks, ok("thin_check", h.LVM.ThinCheck)...)
}

func pools(h Host) []Check {
	if h.PoolError != "" {
		return warning("pools", "not seen: "+h.PoolError, "run fermata doctor as root")
	}
	var checks []Check
	if !slices.ContainsFunc(h.Pools, func(p api.Pool) bool { return p.Provider != "dm" }) {
		checks = warning("pools", "there is no active thin pool: no sets of thin volumes", "lvcreate --type thin-pool, or lvchange -ay")
	}
	for _, p := range h.Pools {
		if p.Provider == "dm" {
			checks = append(checks, storageVolume(p)...)
			continue
		}
		checks = append(checks, pool(p)...)
	}
	return checks
}

// storageVolume is where the provider dm keeps what is overwritten (docs/dm.md).
func storageVolume(p api.Pool) []Check {
	name, data := "storage volume "+p.Name, ratio(p.Used, p.Size)
	detail := fmt.Sprintf("%s, data %.1f%%", p.Mode, 100*data)
	switch {
	case p.Mode == "fail":
		return failure(name, "not there, or not usable", "mount it, or give provider dm another: storage")
	case p.Mode != "rw":
		return failure(name, detail+": nothing can be written", "see dmesg; make it writable again")
	case data >= fullData:
		return warning(name, detail, "delete sets, or make it larger")
	}
	return ok(name, detail)
}

func pool(p api.Pool) []Check {
	name := "pool " + p.Name
	data, metadata := ratio(p.Used, p.Size), ratio(p.MetadataUsed, p.MetadataSize)
	detail := fmt.Sprintf("%s, data %.1f%%, metadata %.1f%%", p.Mode, 100*data, 100*metadata)
	switch {
	case p.NeedsCheck:
		return failure(name, detail+", needs a check", "deactivate the pool and run lvconvert --repair "+p.Name)
	case p.Mode == "out_of_data_space":
		return failure(name, detail, "extend it: lvextend "+p.Name)
	case p.Mode != "rw":
		return failure(name, detail+": nothing can be written", "see dmesg; lvconvert --repair "+p.Name)
	case metadata >= fullMetadata:
		return warning(name, detail, "extend its metadata: lvextend --poolmetadatasize +SIZE "+p.Name)
	case data >= fullData:
		return warning(name, detail, "extend it: lvextend "+p.Name+", or delete sets")
	}
	return ok(name, detail)
}

func ratio(used, total uint64) float64 {
	if total == 0 {
		return 0
	}
	return float64(used) / float64(total)
}

func mounts(h Host) []Check {
	if h.MountError != "" {
		return failure("mounts", h.MountError, "")
	}
	var checks []Check
	for _, m := range h.Mount {
		checks = append(checks, mount(m)...)
	}
	if len(checks) == 0 {
		return warning("mounts", "no filesystem on a block device is mounted", "")
	}
	return checks
}

func mount(m Mount) []Check {
	name := "mount " + m.Point
	switch {
	case m.Provider != "" && m.Freezable:
		return ok(name, m.FSType+", can be frozen, provider "+m.Provider)
	case m.Provider != "" && m.ReadOnly:
		return ok(name, m.FSType+", read-only, provider "+m.Provider)
	case m.Provider != "":
		return warning(name, m.FSType+" cannot be frozen: a set of it claims no more than crash consistency", "")
	}
	why := m.Why
	if why == "" {
		why = "no provider takes it"
	}
	// A fact, not a fault: most hosts have filesystems that nobody wants snapshots of.
	return ok(name, m.FSType+", not for sets: "+why)
}

func swap(h Host) []Check {
	if len(h.SwapOnDM) == 0 {
		return nil
	}
	return warning("swap", "on "+strings.Join(h.SwapOnDM, ", ")+": programs that are not locked in memory wait for it while its volumes are held",
		"do not put swap into a set")
}

func monitoring(h Host) []Check {
	const name = "monitoring"
	if h.Dmeventd {
		return ok(name, "dmeventd listens")
	}
	if len(h.Pools) == 0 {
		return nil
	}
	return warning(name, "dmeventd does not run: LVM will not extend a pool that fills", "set thin_pool_autoextend_threshold in lvm.conf and run systemctl start lvm2-monitor")
}
