package dm

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Group is a volume group of LVM's as far as device-mapper knows it: by those of its logical volumes that are active.
type Group struct {
	UUID  string // without hyphens
	Name  string
	Disks []Dev // that its volumes are on: physical volumes
	Thin  []Dev // volumes in a thin pool
	Plain []Dev // the other volumes, without the parts of some
}

// lvmUUID is the length of a UUID of LVM's. A device has "LVM-", that of its group, that of its volume, and for a part of a volume
// "-tpool", "-real", "-cow" and the like (lib/activate/dev_manager.c).
const lvmUUID = 32

// splitLVMUUID takes the UUID of a device of LVM's apart.
func splitLVMUUID(uuid string) (group, part string, ok bool) {
	rest, ok := strings.CutPrefix(uuid, "LVM-")
	if !ok || len(rest) < 2*lvmUUID {
		return "", "", false
	}
	return rest[:lvmUUID], rest[2*lvmUUID:], true
}

// Groups finds the volume groups with an active volume, by name. It asks each of their devices what it is on.
func (c *Control) Groups() ([]Group, error) {
	list, err := c.List()
	if err != nil {
		return nil, err
	}
	deps := map[Dev][]Dev{}
	var errs []error
	for _, e := range list {
		if _, _, ok := splitLVMUUID(e.UUID); !ok {
			continue
		}
		on, err := c.Deps(ByDev(e.Dev))
		if err != nil && !errors.Is(err, unix.ENXIO) { // that has just gone
			errs = append(errs, err)
		}
		deps[e.Dev] = on
	}
	return groups(list, deps), errors.Join(errs...)
}

// groups sorts devices of LVM's by their groups.
func groups(list []ListEntry, deps map[Dev][]Dev) []Group {
	found, uuids := map[string]*Group{}, map[Dev]string{}
	for _, e := range list {
		uuids[e.Dev] = e.UUID
	}
	for _, e := range list {
		uuid, part, ok := splitLVMUUID(e.UUID)
		if !ok {
			continue
		}
		g := found[uuid]
		if g == nil {
			g = &Group{UUID: uuid}
			found[uuid] = g
		}
		if name, _, _, ok := SplitLVMName(e.Name); ok {
			g.Name = cmp.Or(g.Name, name)
		}
		thin := false
		for _, on := range deps[e.Dev] {
			below, layer, ok := splitLVMUUID(uuids[on])
			if !ok || below != uuid {
				g.Disks = append(g.Disks, on)
			}
			thin = thin || layer == "-tpool"
		}
		switch {
		case part != "":
		case thin:
			g.Thin = append(g.Thin, e.Dev)
		default:
			g.Plain = append(g.Plain, e.Dev)
		}
	}
	var out []Group
	for _, uuid := range slices.Sorted(maps.Keys(found)) {
		g := found[uuid]
		slices.Sort(g.Disks)
		g.Disks = slices.Compact(g.Disks)
		out = append(out, *g)
	}
	slices.SortStableFunc(out, func(a, b Group) int { return strings.Compare(a.Name, b.Name) })
	return out
}
