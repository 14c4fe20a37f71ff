package plugin

import (
	"context"
	"fmt"

	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/plugin/protocol"
)

// What a plug-in can do beyond every provider's duties shows, as for every provider, in the interfaces that it has.

type copier struct{ p *Provider }

func (c copier) Copy(ctx context.Context, s provider.Snapshot) (provider.Snapshot, error) {
	snap := toSnapshot(s)
	r, err := c.p.change(ctx, protocol.Copy, protocol.Params{Snapshot: &snap})
	if err != nil {
		return provider.Snapshot{}, err
	}
	if r.Snapshot == nil || !r.Snapshot.Scratch || r.Snapshot.Set.ID != s.Set.ID {
		return provider.Snapshot{}, fmt.Errorf("plug-in %s failed at copy: its answer has no throw-away copy", c.p.Name())
	}
	return c.p.fromSnapshot(*r.Snapshot)
}

type usager struct{ p *Provider }

func (u usager) Usage(s provider.Snapshot) (provider.Usage, error) {
	snap := toSnapshot(s)
	r, err := u.p.query(context.Background(), protocol.Usage, protocol.Params{Snapshot: &snap})
	if err != nil {
		return provider.Usage{}, err
	}
	if r.Usage == nil {
		return provider.Usage{}, fmt.Errorf("plug-in %s failed at usage: its answer has none", u.p.Name())
	}
	return provider.Usage(*r.Usage), nil
}

type resizer struct{ p *Provider }

func (z resizer) Resize(ctx context.Context, s provider.Snapshot, size uint64) error {
	snap := toSnapshot(s)
	_, err := z.p.change(ctx, protocol.Resize, protocol.Params{Snapshot: &snap, Size: size})
	return err
}

type pooler struct{ p *Provider }

func (o pooler) Pools() ([]provider.Pool, error) {
	r, err := o.p.query(context.Background(), protocol.Pools, protocol.Params{})
	if err != nil {
		return nil, err
	}
	var out []provider.Pool
	for _, q := range r.Pools {
		if err := checkName(q.Name); err != nil {
			return nil, fmt.Errorf("plug-in %s failed at pools: %w", o.p.Name(), err)
		}
		out = append(out, provider.Pool{
			Name: q.Name, Device: q.Device, Mode: q.Mode, Size: q.Size, Used: q.Used,
			MetadataSize: q.MetadataSize, MetadataUsed: q.MetadataUsed, NeedsCheck: q.NeedsCheck,
		})
	}
	return out, nil
}

// optional is the provider with the interfaces that its capabilities stand for.
func (p *Provider) optional() provider.Provider {
	c, u, z, o := copier{p}, usager{p}, resizer{p}, pooler{p}
	kind := 0
	for i, capability := range []protocol.Capability{protocol.CanCopy, protocol.CanUsage, protocol.CanResize, protocol.CanPools} {
		if p.can(capability) {
			kind |= 1 << i
		}
	}
	switch kind {
	case 1:
		return struct {
			*Provider
			copier
		}{p, c}
	case 2:
		return struct {
			*Provider
			usager
		}{p, u}
	case 3:
		return struct {
			*Provider
			copier
			usager
		}{p, c, u}
	case 4:
		return struct {
			*Provider
			resizer
		}{p, z}
	case 5:
		return struct {
			*Provider
			copier
			resizer
		}{p, c, z}
	case 6:
		return struct {
			*Provider
			usager
			resizer
		}{p, u, z}
	case 7:
		return struct {
			*Provider
			copier
			usager
			resizer
		}{p, c, u, z}
	case 8:
		return struct {
			*Provider
			pooler
		}{p, o}
	case 9:
		return struct {
			*Provider
			copier
			pooler
		}{p, c, o}
	case 10:
		return struct {
			*Provider
			usager
			pooler
		}{p, u, o}
	case 11:
		return struct {
			*Provider
			copier
			usager
			pooler
		}{p, c, u, o}
	case 12:
		return struct {
			*Provider
			resizer
			pooler
		}{p, z, o}
	case 13:
		return struct {
			*Provider
			copier
			resizer
			pooler
		}{p, c, z, o}
	case 14:
		return struct {
			*Provider
			usager
			resizer
			pooler
		}{p, u, z, o}
	case 15:
		return struct {
			*Provider
			copier
			usager
			resizer
			pooler
		}{p, c, u, z, o}
	}
	return p
}
