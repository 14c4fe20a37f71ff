package daemon

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/fsfreeze"
)

// chooseAll finds each volume's provider, or the volumes of the set that have it in them.
func (d *Daemon) chooseAll(p *plan, wanted map[dm.Dev]string, grounds []fsfreeze.Ground) error {
	refused := make([]error, len(p.members))
	for i, m := range p.members {
		p.members[i], refused[i] = d.choose(m, wanted[m.vol.Dev])
	}
	why := p.enclose(grounds)
	var errs []error
	for i, m := range p.members {
		err := refused[i]
		switch {
		case m.inside != "" && wanted[m.vol.Dev] == "":
			err = nil
		case err != nil && why[i] != "" && wanted[m.vol.Dev] == "":
			err = fmt.Errorf("%w; %s", err, why[i])
		case err == nil && m.claim.Unheld && len(m.also) > 0: // it captures what is mounted at one place
			err = fmt.Errorf("provider %s would not take %s, which is on the same device: name another (--provider %s=NAME), or take two sets",
				m.provider.Name(), strings.Join(m.also, ", "), m.path)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot take %s: %w", m.path, err))
		}
	}
	return errors.Join(errs...)
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
		switch {
		case errors.Is(err, provider.ErrNoVolumes) && wanted == "":
			// it never comes into question, so nobody asks why
		case err != nil:
			m.refused[p.Name()] = err.Error()
		case m.provider != nil:
			m.refused[p.Name()] = fmt.Sprintf("%s (%s) comes first", m.provider.Name(), m.provider.Kind())
		default:
			m.provider, m.claim = p, c
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
	m.vol.Name = m.claim.Name
	switch {
	case !m.claim.Unheld:
	case m.freeze:
		m.freeze, m.unfrozen = false, ""
		if m.fs.Type != "btrfs" { // whose snapshots are whole by themselves
			m.unfrozen = "provider " + m.provider.Name() + " captures it without a freeze"
		}
	default:
		m.unfrozen += ", and provider " + m.provider.Name() + " captures it without a hold"
	}
	return m, nil
}

// coverage lists the writers that speak for a volume without a mounted filesystem: a path of one of their components is
// the volume's device.
func (d *Daemon) coverage(m member, writers []config.Writer) []string {
	var out []string
	for _, w := range writers {
		if m.fs == nil && slices.ContainsFunc(w.Components, func(c config.Component) bool {
			return slices.ContainsFunc(c.Paths, func(path string) bool {
				dev, ok, err := d.o.Host.BlockDevice(path)
				return err == nil && ok && dev == uint64(m.vol.Dev)
			})
		}) {
			out = append(out, w.Name)
		}
	}
	return out
}
