package daemon

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/fsfreeze"
)

// member is one volume of a set.
type member struct {
	path     string   // as it was asked for
	also     []string // other paths that were asked for, of the same device
	vol      provider.Volume
	fs       *fsfreeze.Filesystem // nil: a raw volume
	provider provider.Provider
	claim    provider.Claim
	refused  map[string]string // why other providers do not take it
	freeze   bool
	unfrozen string   // why it is not frozen
	covered  []string // writers that speak for a volume that is not frozen
	inside   string   // it has no snapshot of its own: the files of its loop devices lie on these volumes of the set
}

// captured reports whether the member gets a snapshot of its own.
func (m member) captured() bool { return m.inside == "" }

// at makes a mount point that by which the volume is called. A btrfs shows another subvolume at each; ids of subvolumes
// are the same in a snapshot of its device.
func (m *member) at(point string) {
	i := slices.IndexFunc(m.fs.Mounts, func(x fsfreeze.Mount) bool { return x.Point == point })
	x := m.fs.Mounts[i]
	m.fs.Mounts = slices.Insert(slices.Delete(slices.Clone(m.fs.Mounts), i, i+1), 0, x)
	m.vol.MountPoint, m.vol.FSType, m.vol.Options = x.Point, m.fs.Type, ""
	for _, o := range x.Options {
		if m.fs.Type == "btrfs" && strings.HasPrefix(o, "subvolid=") {
			m.vol.Options = o
		}
	}
}

// plan is what a set will do.
type plan struct {
	members []member
	levels  [][]fsfreeze.Filesystem // to be frozen, level 0 first
	others  []string                // mount points of what somebody else freezes
}

// told are the mount points that writers are told.
func (p plan) told() []string { return append(p.mountPoints(), p.others...) }

func (p plan) filesystems() []fsfreeze.Filesystem { return slices.Concat(p.levels...) }

// flushed is what a set writes out: filesystems that are frozen, and raw volumes; device number → name.
func (p plan) flushed() map[uint64]string {
	out := map[uint64]string{}
	for _, f := range p.filesystems() {
		out[f.Dev] = f.Point()
	}
	for _, m := range p.members {
		if m.fs == nil {
			out[uint64(m.vol.Dev)] = m.vol.Name
		}
	}
	return out
}

// share is one provider's volumes of a set.
type share struct {
	provider provider.Provider
	volumes  []provider.Volume
}

// shares are the volumes of each provider that has any. They come in the order of choice, so that every set arms, locks
// and captures in the same order.
func (p plan) shares(order []provider.Provider) []share {
	var out []share
	for _, x := range order {
		var mine []provider.Volume
		for _, m := range p.members {
			if m.captured() && m.provider == x {
				mine = append(mine, m.vol)
			}
		}
		if mine != nil {
			out = append(out, share{x, mine})
		}
	}
	return out
}

// size counts the snapshots of the set.
func (p plan) size() int {
	n := 0
	for _, m := range p.members {
		if m.captured() {
			n++
		}
	}
	return n
}

func (p plan) mountPoints() []string {
	var points []string
	for _, m := range p.members {
		if m.fs == nil {
			continue
		}
		for _, x := range m.fs.Mounts {
			points = append(points, x.Point)
		}
	}
	return points
}

func (p plan) snapshots() []api.Snapshot {
	var out []api.Snapshot
	for _, m := range p.members {
		s := api.Snapshot{
			Volume: m.vol.Name, Device: m.vol.Device, MountPoint: m.vol.MountPoint, FSType: m.vol.FSType, Frozen: m.freeze,
			Size: m.vol.Size, Refused: m.refused, Inside: m.inside,
		}
		if m.captured() && m.provider != nil { // a hold without a snapshot has none
			s.Provider = m.provider.Name()
		}
		out = append(out, s)
	}
	return out
}

// order sorts the filesystems to be frozen into levels.
func (p *plan) order(mounts []fsfreeze.Mount, stack func(uint64) (fsfreeze.Device, error)) error {
	var frozen []fsfreeze.Filesystem
	for _, m := range p.members {
		if m.freeze {
			frozen = append(frozen, *m.fs)
		}
	}
	layers, err := fsfreeze.Layers(frozen, mounts, stack)
	if err != nil {
		return err
	}
	p.levels = fsfreeze.Order(layers)
	return nil
}

// held is nil if every volume that a provider captures stands still at the instant: frozen, or suspended by the provider,
// or else declared unheld, which the set's consistency then says.
func (p plan) held(by provider.Provider, suspended []dm.Dev) error {
	var errs []error
	for _, m := range p.members {
		if m.captured() && m.provider == by && !m.freeze && !m.claim.Unheld && !slices.Contains(suspended, m.vol.Dev) {
			errs = append(errs, fmt.Errorf("cannot capture %s: %s, and provider %s neither suspends it nor says that it captures it unheld (name another provider: --provider %s=NAME)",
				m.path, m.unfrozen, by.Name(), m.path))
		}
	}
	return errors.Join(errs...)
}

// compatible is nil if the volumes can be captured at one instant.
//
// Of those that a provider captures without a hold there may be one: its instant is the set's. What rests on another
// volume of the set, by its devices or through the file of a loop device, must be quiet before that one is held: it must
// be frozen, and its capture must not write.
func (p plan) compatible(grounds []fsfreeze.Ground) error {
	unheld := -1
	for i, m := range p.members {
		if m.claim.Unheld && unheld >= 0 {
			return fmt.Errorf("cannot take %s and %s in one set: provider %s and provider %s each capture at an instant of their own, and a set has one instant (take them in two sets, or name another provider: --provider %s=NAME)",
				p.members[unheld].path, m.path, p.members[unheld].provider.Name(), m.provider.Name(), m.path)
		}
		if m.claim.Unheld {
			unheld = i
		}
		for _, o := range p.members {
			if o.vol.Dev == m.vol.Dev || !o.under(grounds[i]) {
				continue
			}
			why := ""
			switch {
			case m.claim.Unheld:
				why = "is captured while its filesystem goes on writing"
			case m.claim.Writes:
				why = "is captured by writing to its pool"
			case !m.freeze:
				why = "is not frozen, so writes to it may be under way"
			default:
				continue
			}
			return fmt.Errorf("cannot take %s and %s in one set: %s %s, and it rests on %s, which is held at that moment (take them in two sets)",
				m.path, o.path, m.path, why, o.path)
		}
	}
	return nil
}

// under reports whether the member is part of what another one rests on.
func (m member) under(g fsfreeze.Ground) bool {
	return slices.Contains(g.Devices, uint64(m.vol.Dev)) || m.fs != nil && slices.Contains(g.Filesystems, m.fs.Dev)
}
