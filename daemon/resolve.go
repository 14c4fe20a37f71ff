package daemon

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/fsfreeze"
)

// resolve turns a request into a plan: mounts to volumes to providers, what rests on something else before it.
func (d *Daemon) resolve(policy effective) (plan, error) {
	mounts, err := d.o.Host.Mounts()
	if err != nil {
		return plan{}, err
	}
	p, err := d.members(policy.Volumes, mounts)
	if err != nil {
		return plan{}, err
	}
	wanted, err := d.wanted(policy, p, mounts)
	if err != nil {
		return plan{}, err
	}
	grounds, err := d.grounds(p, mounts)
	if err != nil {
		return plan{}, err
	}
	if err := d.chooseAll(&p, wanted, grounds); err != nil {
		return plan{}, err
	}
	if err := p.compatible(grounds); err != nil {
		return plan{}, err
	}
	for i := range p.members {
		m := &p.members[i]
		m.covered = d.coverage(*m, policy.writers)
		if err := d.sizes(m, policy.COW); err != nil {
			return plan{}, err
		}
	}
	return p, p.order(mounts, d.o.Host.Stack)
}

// members finds what the paths of a request stand for, each volume once: two mounts of one filesystem are one volume.
func (d *Daemon) members(paths []string, mounts []fsfreeze.Mount) (plan, error) {
	var p plan
	var errs []error
	seen := map[dm.Dev]int{} // index of its member
	for _, path := range paths {
		m, err := d.member(path, mounts)
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot take %s: %w", path, err))
			continue
		}
		if i, ok := seen[m.vol.Dev]; ok {
			p.members[i].also = append(p.members[i].also, path)
			continue
		}
		seen[m.vol.Dev] = len(p.members)
		p.members = append(p.members, m)
	}
	return p, errors.Join(errs...)
}

// wanted says for which volume which provider was asked for.
func (d *Daemon) wanted(policy effective, p plan, mounts []fsfreeze.Mount) (map[dm.Dev]string, error) {
	out := map[dm.Dev]string{}
	for _, m := range p.members {
		out[m.vol.Dev] = policy.Provider
	}
	var errs []error
	for _, path := range slices.Sorted(maps.Keys(policy.Providers)) {
		m, err := d.member(path, mounts)
		if _, member := out[m.vol.Dev]; err == nil && !member {
			err = errors.New("it is no volume of the set")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot choose provider %s for %s: %w", policy.Providers[path], path, err))
			continue
		}
		out[m.vol.Dev] = policy.Providers[path]
	}
	return out, errors.Join(errs...)
}

// member finds what one path of a request stands for.
func (d *Daemon) member(path string, mounts []fsfreeze.Mount) (member, error) {
	if !filepath.IsAbs(path) {
		return member{}, errors.New("not an absolute path")
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return member{}, err
	}
	dev, isDevice, err := d.o.Host.BlockDevice(real)
	if err != nil {
		return member{}, err
	}
	if !isDevice {
		m, ok := fsfreeze.At(mounts, real)
		if !ok {
			return member{}, fmt.Errorf("it is neither a mount point nor a block device; it lies on %s", fsfreeze.Under(mounts, real).Point)
		}
		dev = m.Dev
	}
	out, err := d.describe(dev, mounts)
	out.path = path
	if err == nil && !isDevice && out.fs.Type == "btrfs" { // each mount shows another subvolume
		out.at(real)
	}
	return out, err
}

// describe gathers what is known of a volume, given the number of its device or of its filesystem.
func (d *Daemon) describe(dev uint64, mounts []fsfreeze.Mount) (m member, err error) {
	if f, ok := fsfreeze.OnDevice(fsfreeze.Filesystems(mounts), dev); ok {
		m.fs = &f
		if dev, err = f.Device(); err != nil {
			return m, err
		}
	}
	s, err := d.o.Host.Stack(dev)
	if err != nil {
		return m, err
	}
	m.vol = provider.Volume{Dev: dm.Dev(dev), Device: s.DM, UUID: s.UUID, Name: s.Name, Size: s.Size}
	if s.DM != "" {
		m.vol.Name = s.DM
	}
	if m.fs == nil {
		m.unfrozen = "no filesystem of it is mounted"
		return m, nil
	}
	m.at(m.fs.Point())
	if m.freeze = fsfreeze.Freezable(m.fs.Type); !m.freeze {
		m.unfrozen = m.fs.Type + " cannot be frozen"
	}
	for _, o := range []string{"logdev", "rtdev"} { // XFS over several devices
		if v, ok := m.fs.Option(o); ok && m.freeze {
			return m, fmt.Errorf("its filesystem has a part on another device (%s=%s), which one snapshot cannot hold", o, v)
		}
	}
	return m, nil
}

// sizes fills in how much of a volume is used, and how large a copy-on-write area that makes.
func (d *Daemon) sizes(m *member, cow config.COW) (err error) {
	m.vol.Used = m.vol.Size
	if m.fs != nil {
		if m.vol.Used, err = d.o.Host.Used(m.fs.Point()); err != nil {
			return err
		}
	}
	m.vol.COW = cow.Of(m.vol.Size, m.vol.Used)
	return nil
}

// grounds finds what each member rests on.
func (d *Daemon) grounds(p plan, mounts []fsfreeze.Mount) ([]fsfreeze.Ground, error) {
	out := make([]fsfreeze.Ground, len(p.members))
	for i, m := range p.members {
		s, err := d.o.Host.Stack(uint64(m.vol.Dev))
		if err != nil {
			return nil, err
		}
		out[i] = fsfreeze.Below(s, mounts, d.o.Host.Stack)
	}
	return out, nil
}
