package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/pools/acts"
	"github.com/fermata-project/fermata/dm/provider"
)

// ShowPool tells of one pool. What LVM has to be asked for is left out while it is somebody else's turn.
func (d *Daemon) ShowPool(ctx context.Context, name string) (*api.PoolDetails, error) {
	p, err := d.poolNamed(ctx, name)
	if err != nil {
		return nil, err
	}
	out := &api.PoolDetails{Pool: *p, Extension: d.whoExtends(ctx, p.Name), Snapshots: d.snapshotsIn(p.Name)}
	for _, g := range d.groupsSeen() {
		if g.Name == groupName(p.Name) {
			out.Group = &g
		}
	}
	if d.o.Watch != nil {
		for _, w := range d.o.Watch.State().Pools {
			if w.Device == p.Device {
				out.Since = w.Since.UTC()
			}
		}
		for _, r := range d.keeper.Recent(p.Name) {
			out.Acts = append(out.Acts, api.PoolAct{Time: r.Time.UTC(), Act: string(r.Act), Outcome: r.Outcome, Level: r.Level.String(), Detail: r.Detail})
		}
	}
	return out, nil
}

func (d *Daemon) poolNamed(ctx context.Context, name string) (*api.Pool, error) {
	all, err := d.Pools(ctx)
	i := slices.IndexFunc(all, func(p api.Pool) bool { return p.Name == name })
	switch {
	case i >= 0:
		return &all[i], nil
	case err != nil:
		return nil, err
	}
	return nil, api.Errorf(api.NotFound, "no pool %q (see fermata pool list)", name)
}

// snapshotsIn are the snapshots that live in a pool, oldest first.
func (d *Daemon) snapshotsIn(pool string) []api.PoolSnapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []api.PoolSnapshot
	for _, m := range d.contents.Sets {
		for _, s := range d.contents.Snapshots[m.ID] {
			if s.Pool == pool {
				out = append(out, api.PoolSnapshot{Name: s.Name, Set: m.ID, Policy: m.Policy, Volume: s.Origin, Created: m.Created})
			}
		}
	}
	return out
}

// autoextended is what LVM said when it was asked last whether dmeventd extends a pool.
type autoextended struct {
	auto bool
	at   time.Time
}

// autoextendedFor is how long that is believed: whoever may look at pools must not keep LVM busy by that.
const autoextendedFor = time.Minute

// autoextends asks whether dmeventd extends a pool.
func (d *Daemon) autoextends(ctx context.Context, pool string) (bool, error) {
	d.mu.Lock()
	last := d.autoextended[pool]
	d.mu.Unlock()
	if time.Since(last.at) < autoextendedFor {
		return last.auto, nil
	}
	p, e := d.extender()
	a, ok := e.(provider.Autoextender)
	if !ok {
		return false, nil
	}
	release, err := d.turn.take(ctx, true)
	if err != nil {
		return false, err
	}
	defer release()
	ctx, cancel := reading(ctx)
	defer cancel()
	var auto bool
	x := call{key: "autoextend " + p.Name(), what: "the question who extends " + pool, fail: "see who extends " + pool, grace: time.Second}
	if err := d.calls.do(ctx, x, func() (err error) { auto, err = a.Autoextended(ctx, pool); return err }); err != nil {
		return false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.autoextended[pool] = autoextended{auto, time.Now()}
	return auto, nil
}

// whoExtends says in words who extends a thin pool.
func (d *Daemon) whoExtends(ctx context.Context, pool string) string {
	auto, err := d.autoextends(ctx, pool)
	c := d.o.Config.Daemon.Pools.Acts
	switch {
	case api.Of(err) == api.Busy:
		return "not known while something is being done"
	case err != nil:
		return "not known: " + err.Error()
	case auto:
		return "dmeventd, to which it is left"
	case c.Extend.At == config.Never || len(c.Only) > 0 && !slices.Contains(c.Only, pool):
		return "nobody"
	}
	return fmt.Sprintf("Fermata, by %v from level %s on", c.Extend.By, c.Extend.At)
}

// ExtendPool extends a thin pool because somebody asked for it: limits and dmeventd do not count then.
func (d *Daemon) ExtendPool(ctx context.Context, name string, o api.ExtendOptions) (*api.Pool, error) {
	if (o.Size > 0) == (o.Percent > 0) {
		return nil, api.Errorf(api.Invalid, "either a size or a percentage above 0 is needed")
	}
	release, err := d.turn.take(ctx, false)
	if err != nil {
		return nil, err
	}
	defer release()
	bounded, cancel := d.bounded(ctx)
	defer cancel()
	p, err := d.poolNamed(bounded, name)
	if err != nil {
		return nil, err
	}
	x := provider.Extension{Metadata: o.Metadata, Whole: true, By: config.Space{Size: config.Size(o.Size), Percent: o.Percent}}
	if o.Metadata {
		x.Limit = config.MaxPoolMetadata
	}
	r := acts.Report{Pool: p.Name, Act: acts.ExtendData}
	if o.Metadata {
		r.Act = acts.ExtendMetadata
	}
	done, err := d.extend(bounded, p.Name, x, false)
	r.Outcome, r.Detail = acts.Done, done+", as asked for"
	if err != nil {
		r.Outcome, r.Detail = acts.Failed, err.Error()
		if errors.Is(err, acts.ErrNothing) {
			err = classed(api.Refused, err)
		}
	}
	d.tell(r)
	if err != nil {
		return nil, classed(api.Failed, err)
	}
	if d.o.Watch != nil {
		if err := d.o.Watch.Refresh(bounded); err != nil {
			d.o.Log.Warn("the pool is extended, but", "pool", p.Name, "error", err)
		}
	}
	return d.poolNamed(bounded, name)
}

// tell reports what was done about a pool for somebody who asked for it, or what was refused.
func (d *Daemon) tell(r acts.Report) {
	if d.keeper == nil {
		return
	}
	r.Time = time.Now()
	for _, w := range d.o.Watch.State().Pools {
		if w.Name == r.Pool {
			r.Level = cmp.Or(r.Level, w.Level)
		}
	}
	d.keeper.Tell(r)
}
