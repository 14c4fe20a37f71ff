package daemon

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/fsfreeze"
)

// effective is a policy with its writers, after the request has had its say.
type effective struct {
	config.Policy
	writers []config.Writer
}

// policy makes a request's effective policy, and fills into the request what the policy says.
func (d *Daemon) policy(r *api.Request) (effective, error) {
	invalid := func(err error) (effective, error) { return effective{}, classed(api.Invalid, err) }
	c := d.o.Config
	e := effective{Policy: config.Policy{
		Volumes: r.Volumes, Writers: r.Writers, Provider: r.Provider, OnFailure: config.OnFailureAbort,
		Limits: c.Daemon.Limits.Limits, Consistency: config.ConsistencyFilesystem, Labels: r.Labels,
	}}
	if len(r.Writers) > 0 {
		e.Consistency = config.ConsistencyApplication
	}
	switch {
	case r.Policy != "" && len(r.Volumes)+len(r.Writers) > 0:
		return invalid(errors.New("cannot take a policy and volumes or writers in one request"))
	case r.Policy != "":
		p, err := c.Policy(r.Policy)
		if err != nil {
			return invalid(err)
		}
		e.Policy = p
		if r.Retry == 0 {
			r.Retry, r.RetryWait = p.Retry.Count, p.Retry.Wait
		}
		if r.Provider != "" {
			e.Provider = r.Provider
		}
		e.Labels = merge(p.Labels, r.Labels)
	case len(r.Volumes) == 0:
		return invalid(errors.New("cannot take a set of nothing: name a policy or volumes"))
	}
	if r.Consistency != "" {
		if r.Consistency.Rank() == 0 {
			return invalid(fmt.Errorf("unknown consistency %q: application, filesystem or crash", r.Consistency))
		}
		e.Consistency = config.Consistency(r.Consistency)
	}
	for _, name := range e.Policy.Writers {
		w, err := c.Writer(name)
		if err != nil {
			return invalid(err)
		}
		if e.OnFailure == config.OnFailureDegrade {
			w.OnFailure = config.OnFailureDegrade
		}
		e.writers = append(e.writers, w)
	}
	return e, nil
}

func merge(a, b map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range []map[string]string{a, b} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

// member is one volume of a set.
type member struct {
	vol      provider.Volume
	fs       *fsfreeze.Filesystem // nil: a raw volume
	provider provider.Provider
	refused  map[string]string // why other providers do not take it
	freeze   bool
	unfrozen string // why it is not frozen
}

// plan is what a set will do.
type plan struct {
	members []member
	levels  [][]fsfreeze.Filesystem // to be frozen, level 0 first
}

func (p plan) filesystems() []fsfreeze.Filesystem { return slices.Concat(p.levels...) }

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
			if m.provider == x {
				mine = append(mine, m.vol)
			}
		}
		if mine != nil {
			out = append(out, share{x, mine})
		}
	}
	return out
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
		out = append(out, api.Snapshot{
			Volume: m.vol.Name, Device: m.vol.Device, MountPoint: m.vol.MountPoint, FSType: m.vol.FSType, Frozen: m.freeze,
			Size: m.vol.Size, Provider: m.provider.Name(), Refused: m.refused,
		})
	}
	return out
}

// resolve turns a request into a plan: mounts to volumes to providers, nested mounts ordered.
func (d *Daemon) resolve(r api.Request, policy effective) (plan, error) {
	mounts, err := d.o.Host.Mounts()
	if err != nil {
		return plan{}, err
	}
	var p plan
	var errs []error
	seen := map[dm.Dev]bool{}
	for _, path := range policy.Volumes {
		m, err := d.member(path, mounts, policy.Provider)
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot take %s: %w", path, err))
			continue
		}
		if !seen[m.vol.Dev] { // two mounts of one filesystem are one volume
			seen[m.vol.Dev] = true
			p.members = append(p.members, m)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return plan{}, err
	}
	var frozen []fsfreeze.Filesystem
	for _, m := range p.members {
		if m.freeze {
			frozen = append(frozen, *m.fs)
		}
	}
	layers, err := fsfreeze.Layers(frozen, mounts, d.o.Host.Stack)
	if err != nil {
		return plan{}, err
	}
	p.levels = fsfreeze.Order(layers)
	return p, nil
}

// member finds what one path of a request stands for.
func (d *Daemon) member(path string, mounts []fsfreeze.Mount, wanted string) (member, error) {
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
	if err != nil {
		return member{}, err
	}
	return d.choose(out, wanted)
}

// describe gathers what is known of a volume.
func (d *Daemon) describe(dev uint64, mounts []fsfreeze.Mount) (m member, err error) {
	for _, f := range fsfreeze.Filesystems(mounts) {
		if f.Dev == dev {
			m.fs = &f
		}
	}
	if unix.Major(dev) == 0 {
		return m, fmt.Errorf("%s has no block device of its own that could be captured", m.fs.Type)
	}
	s, err := d.o.Host.Stack(dev)
	if err != nil {
		return m, err
	}
	m.vol = provider.Volume{Dev: dm.Dev(dev), Device: s.DM, UUID: s.UUID, Name: s.Name, Size: s.Size}
	if s.DM != "" {
		m.vol.Name = s.DM
	}
	switch {
	case m.fs == nil:
		m.unfrozen = "no filesystem of it is mounted"
	case !fsfreeze.Freezable(m.fs.Type):
		m.vol.MountPoint, m.vol.FSType = m.fs.Point(), m.fs.Type
		m.unfrozen = m.fs.Type + " cannot be frozen"
	default:
		m.vol.MountPoint, m.vol.FSType = m.fs.Point(), m.fs.Type
		m.freeze = true
		for _, o := range []string{"logdev", "rtdev"} { // XFS over several devices
			if v, ok := m.fs.Option(o); ok {
				return m, fmt.Errorf("its filesystem has a part on another device (%s=%s), which one snapshot cannot hold", o, v)
			}
		}
	}
	return m, nil
}

// choose finds the provider: the one that was asked for, or the first that takes the volume.
func (d *Daemon) choose(m member, wanted string) (member, error) {
	m.refused = map[string]string{}
	for _, p := range d.o.Providers {
		if wanted != "" && p.Name() != wanted {
			m.refused[p.Name()] = "another provider was asked for"
			continue
		}
		c, err := p.Claim(m.vol)
		if err != nil {
			m.refused[p.Name()] = err.Error()
			continue
		}
		if m.provider == nil {
			m.provider, m.vol.Name = p, c.Name
		}
	}
	if m.provider == nil {
		if wanted != "" && m.refused[wanted] == "" {
			return m, fmt.Errorf("there is no provider %q", wanted)
		}
		var why []string
		for name, reason := range m.refused {
			why = append(why, name+": "+reason)
		}
		slices.Sort(why)
		return m, fmt.Errorf("no provider takes it (%s)", strings.Join(why, "; "))
	}
	return m, nil
}
