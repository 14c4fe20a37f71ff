package doctor

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/fsfreeze"
)

// moduleOf names the kernel module of each target (drivers/md/Makefile).
var moduleOf = map[string]string{
	"thin-pool": "dm-thin-pool", "thin": "dm-thin-pool", "snapshot": "dm-snapshot", "snapshot-origin": "dm-snapshot",
}

func readAtMost(r io.Reader, limit int64) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit))
	return string(b), err
}

// observeStorage looks at device-mapper, pools, mounts and swap. Volumes, if any, are the daemon's inventory.
func observeStorage(h *Host, volumes []api.Volume) {
	control, err := dm.Open()
	if err != nil {
		h.DM.Error = err.Error()
		if h.Service.Status == nil {
			h.PoolError = err.Error()
		}
	} else {
		defer control.Close()
		observeDM(h, control)
	}
	observeMounts(h, control, volumes)
	h.SwapOnDM = swapOnDM(read("/proc/swaps"))
}

func observeDM(h *Host, control *dm.Control) {
	major, minor, patch, err := control.Version()
	if err != nil {
		h.DM.Error = err.Error()
		return
	}
	h.DM.Version = dotted(major, minor, patch)
	types, err := control.Targets()
	if err != nil {
		h.DM.Error = err.Error()
		return
	}
	h.DM.Targets = map[string]string{}
	for _, t := range types {
		h.DM.Targets[t.Name] = dotted(t.Major, t.Minor, t.Patch)
	}
	h.DM.Modules = modules(h.Release)
	if h.Service.Status == nil {
		h.Pools, err = thinPools(control)
		if err != nil {
			h.PoolError = err.Error()
		}
	}
}

// modules of targets that this kernel could load.
func modules(release string) map[string]string {
	dir := filepath.Join("/lib/modules", release)
	index := read(filepath.Join(dir, "modules.dep")) + read(filepath.Join(dir, "modules.builtin"))
	found := map[string]string{}
	for target, module := range moduleOf {
		if hasModule(index, module) {
			found[target] = module
		}
	}
	return found
}

// hasModule looks a module up in the text of modules.dep or modules.builtin: lines that begin with its path.
func hasModule(index, module string) bool {
	for line := range strings.Lines(index) {
		path, _, _ := strings.Cut(strings.TrimSpace(line), ":")
		name, _, _ := strings.Cut(filepath.Base(path), ".")
		if strings.ReplaceAll(name, "_", "-") == module {
			return true
		}
	}
	return false
}

// thinPools asks device-mapper about the active thin pools of LVM.
func thinPools(control *dm.Control) ([]api.Pool, error) {
	devices, err := control.List()
	if err != nil {
		return nil, err
	}
	var pools []api.Pool
	for _, d := range devices {
		table, _, err := control.Table(dm.ByDev(d.Dev))
		if err != nil || len(table) != 1 || table[0].Type != "thin-pool" {
			continue // gone meanwhile, or something else
		}
		status, _, err := control.Status(dm.ByDev(d.Dev), dm.StatusNoFlush)
		if err != nil || len(status) != 1 {
			continue
		}
		if p, ok := poolOf(d.Name, table[0].Params, status[0].Params); ok {
			pools = append(pools, p)
		}
	}
	return pools, nil
}

const (
	sector        = 512
	metadataBlock = 4096
)

// poolOf reads a pool's table and status.
func poolOf(name, table, status string) (api.Pool, bool) {
	t, err := dm.ParseThinPoolTable(table)
	if err != nil {
		return api.Pool{}, false
	}
	s, err := dm.ParseThinPool(status)
	if err != nil {
		return api.Pool{}, false
	}
	block := uint64(t.BlockSize) * sector
	return api.Pool{
		Name: lvName(name), Provider: "thin", Device: name, Mode: s.Mode.String(),
		Size: s.TotalData * block, Used: s.UsedData * block,
		MetadataSize: s.TotalMetadata * metadataBlock, MetadataUsed: s.UsedMetadata * metadataBlock,
		NeedsCheck: s.NeedsCheck,
	}, true
}

// lvName is vg/lv for a device of LVM, and the device's own name for another.
func lvName(device string) string {
	vg, lv, _, ok := dm.SplitLVMName(device)
	if !ok {
		return device
	}
	return vg + "/" + lv
}

// observeMounts lists the filesystems on block devices. The daemon's inventory knows which provider takes each; without
// it, the target of the device below tells.
func observeMounts(h *Host, control *dm.Control, volumes []api.Volume) {
	table, err := fsfreeze.Mounts()
	if err != nil {
		h.MountError = err.Error()
		return
	}
	byPoint := map[string]api.Volume{}
	for _, v := range volumes {
		for _, p := range v.MountPoints {
			byPoint[p] = v
		}
	}
	for _, f := range fsfreeze.Filesystems(table) {
		if !strings.HasPrefix(f.Source, "/dev/") {
			continue
		}
		m := Mount{Point: f.Point(), FSType: f.Type, Freezable: fsfreeze.Freezable(f.Type) && !f.ReadOnly, ReadOnly: f.ReadOnly}
		if v, known := byPoint[m.Point]; known {
			m.Provider, m.Why = v.Provider, v.Problem
		} else {
			m.Provider, m.Why = providerOf(control, f.Dev)
		}
		h.Mount = append(h.Mount, m)
	}
}

// providerOf guesses the provider from the target of a device.
func providerOf(control *dm.Control, dev uint64) (provider, why string) {
	if control == nil {
		return "", "device-mapper cannot be asked from here"
	}
	table, info, err := control.Table(dm.ByDev(dm.Dev(dev)))
	if err != nil || len(table) == 0 {
		return "", "it is no device-mapper volume"
	}
	switch table[0].Type {
	case "thin":
		return "thin", ""
	case "linear", "striped", "raid", "mirror", "snapshot-origin":
		if strings.HasPrefix(info.UUID, "LVM-") {
			return "thick", ""
		}
	}
	return "", "no provider takes a volume of type " + table[0].Type
}

// swapOnDM finds device-mapper devices in /proc/swaps (proc_swaps(5)).
func swapOnDM(swaps string) []string {
	var found []string
	for line := range strings.Lines(swaps) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[1] != "partition" {
			continue
		}
		if strings.HasPrefix(fields[0], "/dev/dm-") || strings.HasPrefix(fields[0], "/dev/mapper/") {
			found = append(found, fields[0])
		}
	}
	return found
}

func dotted(a, b, c uint32) string { return fmt.Sprintf("%d.%d.%d", a, b, c) }
