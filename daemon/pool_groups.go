package daemon

import (
	"slices"
	"strings"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/pools"
	"github.com/fermata-project/fermata/daemon/pools/acts"
	"github.com/fermata-project/fermata/dm"
)

// GroupsOfConcern says what Fermata has to do with volume groups, by their UUIDs. It asks for the mounts, and for devices that policies name.
func (d *Daemon) GroupsOfConcern(groups []dm.Group) map[string]pools.Concern {
	volumes := d.policyDevices()
	var watched []pools.Pool
	if d.o.Watch != nil {
		watched = d.o.Watch.State().Pools
	}
	out := map[string]pools.Concern{}
	for _, g := range groups {
		out[g.UUID] = concern(g, watched, volumes, d.o.Config.Daemon.Pools.Acts)
	}
	return out
}

// concern is that of one group: of the pools and copy-on-write areas in it, and of the volumes of policies, each with whether a snapshot
// of it could be one of LVM's thick ones.
func concern(g dm.Group, watched []pools.Pool, volumes map[dm.Dev]bool, c config.PoolActs) (out pools.Concern) {
	for _, p := range watched {
		switch extended := c.Extend.At != config.Never && (len(c.Only) == 0 || slices.Contains(c.Only, p.Name)); {
		case !strings.HasPrefix(p.UUID, "LVM-"+g.UUID):
		case p.Type == "snapshot" || extended:
			return pools.Used
		default:
			out = pools.Touched
		}
	}
	for _, dev := range g.Plain {
		if thick, ok := volumes[dev]; ok {
			if thick {
				return pools.Used
			}
			out = pools.Touched
		}
	}
	for _, dev := range g.Thin {
		if _, ok := volumes[dev]; ok {
			out = pools.Touched
		}
	}
	return out
}

// policyDevices are the devices of all policies' volumes that are there now, with whether the provider thick may be asked for one.
func (d *Daemon) policyDevices() map[dm.Dev]bool {
	mounted := map[string]uint64{}
	if mounts, err := d.o.Host.Mounts(); err == nil {
		for _, m := range mounts {
			mounted[m.Point] = m.Dev
		}
	}
	out := map[dm.Dev]bool{}
	for _, p := range d.o.Config.Policies {
		for _, path := range p.Volumes {
			dev, ok := mounted[path]
			if !ok && strings.HasPrefix(path, "/dev/") { // anything else could be on a filesystem that hangs
				dev, ok, _ = d.o.Host.BlockDevice(path)
			}
			if !ok {
				continue
			}
			name := p.Provider
			if own, named := p.Providers[path]; named {
				name = own
			}
			out[dm.Dev(dev)] = out[dm.Dev(dev)] || name == "" || name == "thick"
		}
	}
	return out
}

// GroupChanged takes a change of a volume group's level from its watch. It does not block.
func (d *Daemon) GroupChanged(c pools.GroupChange) {
	if d.keeper == nil {
		return
	}
	act := acts.Warn
	if c.Level < c.Was {
		act = acts.Clear
	}
	d.tell(acts.Report{Pool: c.Name, Act: act, Outcome: c.Level.String(), Level: c.Level, Detail: c.Reason})
}

// groupsSeen are the volume groups that are watched.
func (d *Daemon) groupsSeen() (out []api.Group) {
	if d.o.Groups == nil {
		return nil
	}
	for _, g := range d.o.Groups() {
		x := api.Group{Name: g.Name, Size: g.Size, Free: g.Free, Used: g.Used, Level: g.Level.String(), Reason: g.Reason, Seen: g.Seen.UTC()}
		if g.Err != nil {
			x.Problem = g.Err.Error()
		}
		if g.Seen.IsZero() {
			x.Level, x.Seen = "", g.Seen
		}
		out = append(out, x)
	}
	return out
}

// Quiet reports whether nothing is frozen, and no set is under way that is going to freeze something.
func (d *Daemon) Quiet() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.running == nil && d.Frozen().Filesystems == 0
}
