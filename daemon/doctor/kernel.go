package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The oldest kernel that Fermata is tested on, and the bounds of the kernels on which a filesystem that is frozen by hand
// and then suspended by LVM gets stuck (fs/super.c, FREEZE_MAY_NEST; the fix is in Debian's 6.12.117 and later).
var (
	oldestKernel = version{5, 10, 0}
	nestsFrom    = version{6, 8, 0}
	nestsFixed   = version{6, 12, 117}
	nestsSeries  = version{6, 13, 0}
)

// version of a kernel: major, minor, patch.
type version [3]int

// parseVersion reads the numbers that a release begins with; what is missing is 0. Debian's release has no patch level
// (6.1.0-32-amd64): that of the upstream kernel stands elsewhere.
func parseVersion(release string) (v version, ok bool) {
	n, _ := fmt.Sscanf(release, "%d.%d.%d", &v[0], &v[1], &v[2])
	return v, n >= 2
}

func (v version) compare(w version) int { return slices.Compare(v[:], w[:]) }

func kernel(h Host) []Check {
	v, known := parseVersion(h.Release)
	switch {
	case !known:
		return warning("kernel", fmt.Sprintf("release %q is not understood", h.Release), "")
	case v.compare(oldestKernel) < 0:
		return warning("kernel", h.Release+" is older than 5.10, the oldest kernel that Fermata is tested on", "upgrade the kernel")
	}
	return append(ok("kernel", h.Release), nestedFreeze(v)...)
}

// nestedFreeze says what the common recipe would do on this kernel. Fermata does not freeze twice on any.
func nestedFreeze(v version) []Check {
	const name = "nested freeze"
	switch {
	case v.compare(nestsFrom) < 0:
		return ok(name, "on this kernel fsfreeze followed by lvcreate -s fails with EBUSY; Fermata's sets are not affected")
	case v.compare(nestsFixed) >= 0 && v.compare(nestsSeries) < 0:
		return ok(name, "this kernel mends fsfreeze followed by lvcreate -s")
	}
	return warning(name, "on this kernel fsfreeze followed by lvcreate -s can leave a volume that cannot be mounted any more; Fermata's sets are not affected",
		"look for such scripts (fsfreeze in hooks of backup programs) and replace them")
}

// neededTargets are those of the providers, with what is missing without each.
var neededTargets = map[string]string{
	"thin-pool":       "no sets of thin volumes",
	"thin":            "no sets of thin volumes",
	"snapshot":        "no sets of plain volumes",
	"snapshot-origin": "no sets of plain volumes",
}

func targets(h Host) []Check {
	const name = "device-mapper"
	d := h.DM
	if d.Error != "" {
		if !h.Root {
			return warning(name, "not seen: "+d.Error, "run fermata doctor as root")
		}
		return failure(name, d.Error, "load it: modprobe dm_mod; a container needs the host's /dev/mapper/control")
	}
	checks := ok(name, "ioctl interface "+d.Version)
	for _, t := range slices.Sorted(maps.Keys(neededTargets)) {
		checks = append(checks, target(d, t)...)
	}
	return checks
}

func target(d DeviceMapper, t string) []Check {
	name := "target " + t
	if v, loaded := d.Targets[t]; loaded {
		return ok(name, "loaded, version "+v)
	}
	if module, there := d.Modules[t]; there {
		return ok(name, "not loaded; module "+module+" is there and is loaded when needed")
	}
	state := warning
	if strings.HasPrefix(t, "thin") {
		state = failure
	}
	return state(name, "this kernel does not have it: "+neededTargets[t], "install the kernel's modules, or a kernel with CONFIG_DM_THIN_PROVISIONING and CONFIG_DM_SNAPSHOT")
}

func udev(h Host) []Check {
	if h.Udev {
		return ok("udev", "running")
	}
	return warning("udev", "not running: device nodes are made by LVM and Fermata themselves", "")
}

func permissions(h Host) []Check {
	const name = "permissions"
	switch {
	case h.Root && h.Admin:
		return ok(name, "root with CAP_SYS_ADMIN")
	case h.Root:
		return failure(name, "root without CAP_SYS_ADMIN: filesystems cannot be frozen from here", "leave the container, or give it CAP_SYS_ADMIN")
	}
	return warning(name, "not root: some things cannot be seen from here", "run fermata doctor as root")
}
