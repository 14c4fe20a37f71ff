package daemon

import (
	"context"
	"slices"
	"strings"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/stack"
	"github.com/fermata-project/fermata/fsfreeze"
)

// Volumes lists every filesystem on block devices, and every other block device that a provider would take, each with
// all that it rests on.
func (d *Daemon) Volumes(ctx context.Context) ([]api.Volume, error) {
	ctx, cancel := reading(ctx)
	defer cancel()
	mounts, err := d.o.Host.Mounts()
	if err != nil {
		return nil, err
	}
	devs, err := d.o.Host.BlockDevices()
	if err != nil {
		return nil, err
	}
	src := stack.Source{Mounts: mounts, Stack: d.o.Host.Stack, Devices: d.o.Host.Devices, Targets: d.targets(ctx)}
	var out []api.Volume
	mounted := map[uint64]bool{}
	for _, f := range fsfreeze.Filesystems(mounts) {
		below, err := d.o.Host.Devices(f)
		if len(below) == 0 && err == nil {
			continue // tmpfs, NFS and the like
		}
		v := d.volume(f.Dev, mounts)
		v.FSType = f.Type
		for _, m := range f.Mounts {
			v.MountPoints = append(v.MountPoints, m.Point)
		}
		for _, dev := range below {
			mounted[dev] = true
		}
		out = append(out, d.place(v, src.Filesystem(f), below))
	}
	for _, dev := range devs {
		if mounted[dev] {
			continue
		}
		if v := d.volume(dev, mounts); v.Provider != "" { // else disks, hidden volumes of LVM and the like
			out = append(out, d.place(v, src.Device(dev), []uint64{dev}))
		}
	}
	slices.SortFunc(out, func(a, b api.Volume) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// volume says what a set would do with a volume.
func (d *Daemon) volume(dev uint64, mounts []fsfreeze.Mount) api.Volume {
	m, err := d.describe(dev, mounts)
	v := api.Volume{Freezable: m.freeze, Unfrozen: m.unfrozen}
	if err != nil {
		v.Freezable, v.Unfrozen = false, err.Error()
	} else {
		m, err = d.choose(m, "")
	}
	if v.Name, v.Size, v.Refused = m.vol.Name, m.vol.Size, m.refused; err != nil {
		v.Problem = err.Error()
		return v
	}
	v.Provider, v.Problem = m.provider.Name(), m.unfrozen
	return v
}

// place adds to a volume what it rests on.
func (d *Daemon) place(v api.Volume, tree api.Node, devs []uint64) api.Volume {
	v.Stack, v.Disks = &tree, stack.Disks(tree)
	if v.Size == 0 {
		v.Size = tree.Size
	}
	name := tree.Name // if its devices are not known
	if len(devs) > 0 {
		if s, err := d.o.Host.Stack(devs[0]); err == nil { // the first stands for all
			if name, v.Device = s.Name, "/dev/"+s.Name; s.DM != "" {
				name, v.Device = s.DM, "/dev/mapper/"+s.DM
			}
		}
	}
	if v.Name == "" {
		v.Name = name
	}
	return v
}
