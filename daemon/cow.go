package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm/provider"
)

// ResizeSet grows the copy-on-write areas of a set's snapshots, or of one.
func (d *Daemon) ResizeSet(ctx context.Context, id string, o api.ResizeOptions) (done []api.Snapshot, err error) {
	release, err := d.turn.take(ctx, false)
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel := d.bounded(ctx)
	defer cancel()
	m, snaps, err := d.find(id)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = late(fmt.Errorf("cannot resize set %s: %w", m.ID, err))
		}
	}()
	if o.Size == 0 {
		return nil, api.Errorf(api.Invalid, "a size of 0 bytes makes no sense")
	}
	meant := d.resizable(m, snaps, o)
	if len(meant) == 0 {
		if o.Volume != "" {
			return nil, api.Errorf(api.Invalid, "its snapshot of %s does not exist, or has no copy-on-write area of its own (see fermata snapshot show %s)", o.Volume, m.ID)
		}
		return nil, api.Errorf(api.Invalid, "none of its snapshots has a copy-on-write area of its own")
	}
	var errs []error
	for _, s := range meant {
		errs = append(errs, d.resizeOne(ctx, s, o))
	}
	errs = append(errs, d.refreshAfter(ctx))
	if m, snaps, err = d.find(m.ID); err != nil {
		return nil, errors.Join(append(errs, err)...)
	}
	m = d.told(m, snaps, d.usages(snaps))
	for _, v := range m.Volumes {
		for _, s := range meant {
			if v.Name == s.Name {
				done = append(done, v)
			}
		}
	}
	return done, errors.Join(errs...)
}

// resizable are the snapshots that are meant and whose provider can resize them.
func (d *Daemon) resizable(m api.Manifest, snaps []provider.Snapshot, o api.ResizeOptions) []provider.Snapshot {
	names := map[string]bool{}
	for _, v := range m.Volumes {
		if o.Volume == "" || o.Volume == v.Volume || o.Volume == v.MountPoint || o.Volume == "/dev/mapper/"+v.Device || o.Volume == "/dev/"+v.Volume {
			names[v.Name] = true
		}
	}
	var out []provider.Snapshot
	for _, s := range snaps {
		p, err := d.provider(s.Provider)
		if _, ok := p.(provider.Resizer); err == nil && ok && names[s.Name] {
			out = append(out, s)
		}
	}
	return out
}

func (d *Daemon) resizeOne(ctx context.Context, s provider.Snapshot, o api.ResizeOptions) error {
	p, err := d.provider(s.Provider)
	if err != nil {
		return err
	}
	size := o.Size
	if u, ok := p.(provider.Usager); ok {
		usage := d.usagesOf(ctx, p, u, []provider.Snapshot{s})[usageKey(s)]
		switch {
		case usage.unknown != nil:
			return classed(api.Failed, usage.unknown)
		case usage.Invalid:
			return api.Errorf(api.Invalid, "the snapshot of %s is lost already: its copy-on-write area has overflowed", s.Origin)
		case o.Grow:
			size += usage.Size
		case size < usage.Size:
			return api.Errorf(api.Invalid, "the copy-on-write area of %s has %d bytes, and cannot shrink to %d", s.Origin, usage.Size, size)
		}
	} else if o.Grow {
		return api.Errorf(api.Invalid, "provider %s does not tell how large the copy-on-write area of %s is: say a size without +", p.Name(), s.Origin)
	}
	resize := func() error { return p.(provider.Resizer).Resize(ctx, s, size) }
	if err := d.change(ctx, p.Name(), "resizing "+s.Name, "resize "+s.Name, nil, resize); err != nil {
		return classed(api.Failed, err)
	}
	d.o.Log.Info("copy-on-write area resized", "set", s.Set.ID, "snapshot", s.Name, "size", size)
	return nil
}
