package daemon

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/fsfreeze"
)

// method fills in how a finished set is to be copied, and checks what needs no plan.
func (d *Daemon) method(r api.Request, e *effective) error {
	if r.Method != "" {
		e.Method = config.Method(r.Method)
	}
	if e.Method != config.MethodClone {
		return nil
	}
	if r.Clone.Directory != "" {
		e.Clone.Directory = r.Clone.Directory
	}
	if r.Clone.Rate != 0 {
		e.Clone.Rate = config.Size(r.Clone.Rate)
	}
	e.Clone.Keep = e.Clone.Keep || r.Clone.Keep
	switch {
	case d.o.Clones == nil:
		return errors.New("cannot clone: provider clone is switched off")
	case e.Clone.Directory == "":
		return errors.New("cannot clone: a directory for the copies is missing")
	case !filepath.IsAbs(e.Clone.Directory):
		return fmt.Errorf("cannot clone to %s: not an absolute path", e.Clone.Directory)
	}
	return nil
}

// admitClone refuses a plan that cannot be copied: others than root could change the copies, their directory lies on one of
// the volumes or has too little room, or a snapshot will have no device.
func (d *Daemon) admitClone(ctx context.Context, e effective, p plan) error {
	if e.Method != config.MethodClone {
		return nil
	}
	dir, err := d.o.Clones.Usable(e.Clone.Directory)
	if err != nil {
		return classed(api.Invalid, err)
	}
	mounts, err := d.o.Host.Mounts()
	if err != nil {
		return err
	}
	under := fsfreeze.Under(mounts, dir)
	var need uint64
	for _, m := range p.members {
		switch {
		case m.fs != nil && m.fs.Dev == under.Dev:
			return api.Errorf(api.Invalid, "cannot clone to %s: it lies on %s, which is to be cloned", dir, m.fs.Point())
		case !m.captured():
			continue // it is in the image of another
		case m.claim.Unheld && partOfOrigin(m.provider, m.vol.Options):
			return api.Errorf(api.Invalid, "cannot clone %s: the snapshots of provider %s have no device of their own to copy (name another: --provider %s=NAME)",
				m.path, m.provider.Name(), m.path)
		}
		n, err := d.copied(ctx, m)
		if err != nil {
			return err
		}
		need += n
	}
	free, err := d.o.Host.Free(dir)
	if err != nil {
		return err
	}
	if free < need {
		return api.Errorf(api.Refused, "cannot clone to %s: %w: %d bytes are free, and the copies can take %d", dir, provider.ErrNoRoom, free, need)
	}
	return nil
}

// partOfOrigin reports whether a snapshot is a part of the live filesystem, as a btrfs subvolume is.
func partOfOrigin(p provider.Provider, options string) bool {
	return options != "" && p.Kind() == provider.Software
}

// copied is how many bytes the copy of a volume can take. All that is not zero is copied, also what its filesystem has
// freed; known to be zero is only what was never written to a thin volume.
func (d *Daemon) copied(ctx context.Context, m member) (uint64, error) {
	p, ok := m.provider.(provider.Mapper)
	if !ok {
		return m.vol.Size, nil
	}
	var n uint64
	what := "the status of " + m.vol.Name
	x := call{key: fmt.Sprintf("mapped %v", m.vol.Dev), what: what, fail: "see " + what}
	if err := d.calls.do(ctx, x, func() (err error) { n, err = p.Mapped(m.vol); return err }); err != nil {
		return 0, err
	}
	return min(n, m.vol.Size), nil
}
