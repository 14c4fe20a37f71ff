package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/pools"
	"github.com/fermata-project/fermata/daemon/pools/acts"
	"github.com/fermata-project/fermata/daemon/retention"
	"github.com/fermata-project/fermata/dm/provider"
)

// KeepPools begins to act on pools that fill up, as the configuration says. It ends with ctx, and Wait waits for that.
func (d *Daemon) KeepPools(ctx context.Context) {
	if d.keeper != nil {
		d.background.Go(func() { d.keeper.Run(ctx) })
	}
}

// PoolChanged takes a change of level from the watch. It does not block.
func (d *Daemon) PoolChanged(c pools.Change) {
	if d.keeper != nil {
		d.keeper.Changed(c)
	}
}

// act does one thing about a pool, when it is its turn: nothing is held then.
func (d *Daemon) act(ctx context.Context, a acts.Act) (string, error) {
	release, err := d.turn.take(ctx, false)
	if err != nil {
		return "", err
	}
	defer release()
	ctx, cancel := d.bounded(ctx)
	defer cancel()
	if d.keeper != nil {
		if err := d.keeper.Still(ctx, a); err != nil { // whoever had the turn may have helped
			return "", err
		}
	}
	switch a.Kind {
	case acts.ExtendData, acts.ExtendMetadata:
		return d.extendByItself(ctx, a.Pool, a.Kind == acts.ExtendMetadata)
	case acts.ExtendCOW:
		return d.extendArea(ctx, a.Pool)
	case acts.Delete, acts.DeleteKept:
		return d.deleteExpendable(ctx, a.Pool.Name, a.Kind == acts.DeleteKept)
	}
	return "", fmt.Errorf("internal error: nobody knows how to do %s", a.Kind)
}

// extendByItself extends a thin pool as the configuration says.
func (d *Daemon) extendByItself(ctx context.Context, p pools.Pool, metadata bool) (string, error) {
	c := d.o.Config.Daemon.Pools.Acts.Extend
	x := provider.Extension{Metadata: metadata, By: c.By, Limit: uint64(c.Limit), Reserve: c.Reserve, Spares: c.Spares[groupName(p.Name)]}
	if metadata {
		x.Limit = uint64(c.MetadataLimit)
	}
	return d.extend(ctx, p.Name, x, true)
}

// extend extends a thin pool, for who has the turn. What dmeventd extends is left to it if respect is set.
func (d *Daemon) extend(ctx context.Context, pool string, x provider.Extension, respect bool) (string, error) {
	p, e := d.extender()
	if e == nil {
		return "", api.Errorf(api.Invalid, "cannot extend pool %s: provider thin is switched off", pool)
	}
	if respect {
		if err := d.leftToDmeventd(ctx, p, pool); err != nil {
			return "", err
		}
	}
	var done provider.Extended
	err := d.change(ctx, p.Name(), "extending "+pool, "extend "+pool, nil, func() (err error) {
		done, err = e.ExtendPool(ctx, pool, x)
		return err
	})
	if errors.Is(err, errLeft) {
		return "", late(err)
	}
	if errors.Is(err, provider.ErrLimit) || errors.Is(err, provider.ErrNoRoom) {
		err = fmt.Errorf("%w: %w", acts.ErrNothing, err)
	}
	return extended(done), late(err)
}

// extended says what was done.
func extended(done provider.Extended) string {
	if done.Is == 0 {
		return ""
	}
	text := fmt.Sprintf("from %d to %d bytes", done.Was, done.Is)
	for _, spare := range done.Spares {
		text += ", with " + spare + " for the volume group"
	}
	return text
}

// extender is the provider whose pools can be extended.
func (d *Daemon) extender() (provider.Provider, provider.Extender) {
	for _, p := range d.o.Providers {
		if e, ok := p.(provider.Extender); ok {
			return p, e
		}
	}
	return nil, nil
}

// leftToDmeventd is ErrLeft if dmeventd extends it.
func (d *Daemon) leftToDmeventd(ctx context.Context, p provider.Provider, name string) error {
	a, ok := p.(provider.Autoextender)
	if !ok {
		return nil
	}
	var auto bool
	err := d.change(ctx, p.Name(), "asking who extends "+name, "see whether dmeventd extends "+name, nil, func() (err error) {
		auto, err = a.Autoextended(ctx, name)
		return err
	})
	switch {
	case err != nil:
		return err
	case auto:
		return fmt.Errorf("%s is not extended: %w, which watches it (autoextend_threshold in lvm.conf)", name, acts.ErrLeft)
	}
	return nil
}

// extendArea extends the copy-on-write area of a snapshot that is ours.
func (d *Daemon) extendArea(ctx context.Context, area pools.Pool) (string, error) {
	s, ok := d.snapshotNamed(area.Name)
	if !ok {
		return "", fmt.Errorf("%s is not extended: %w: it is not a snapshot that Fermata has taken", area.Name, acts.ErrNothing)
	}
	p, err := d.provider(s.Provider)
	if err != nil {
		return "", err
	}
	if _, ok := p.(provider.Resizer); !ok {
		return "", fmt.Errorf("%s is not extended: %w: provider %s cannot", area.Name, acts.ErrNothing, p.Name())
	}
	if err := d.leftToDmeventd(ctx, p, area.Name); err != nil {
		return "", err
	}
	u, ok := p.(provider.Usager)
	if !ok {
		return "", fmt.Errorf("%s is not extended: %w: provider %s does not tell how large it is", area.Name, acts.ErrNothing, p.Name())
	}
	size := func() uint64 { return d.usagesOf(ctx, p, u, []provider.Snapshot{s})[usageKey(s)].Size }
	before := size()
	by := d.o.Config.Daemon.Pools.Acts.Extend.By.Of(area.Data.Size)
	if err := d.resizeOne(ctx, s, api.ResizeOptions{Size: by, Grow: true}); err != nil {
		return "", err
	}
	after := size()
	if after <= before { // no area is larger than a copy of the volume needs
		return "", fmt.Errorf("%s is not extended: %w: it has all that it can use", area.Name, acts.ErrNothing)
	}
	return fmt.Sprintf("from %d to %d bytes", before, after), nil
}

func (d *Daemon) snapshotNamed(name string) (provider.Snapshot, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, snaps := range d.contents.Snapshots {
		for _, s := range snaps {
			if s.Name == name {
				return s, true
			}
		}
	}
	return provider.Snapshot{}, false
}

// deleteExpendable deletes what an earlier deletion has left in a pool, or else the least valuable set that has a snapshot there.
// One set is begun at most: what keeps it from being removed would keep the next one, too.
func (d *Daemon) deleteExpendable(ctx context.Context, pool string, kept bool) (string, error) {
	_ = d.refreshAfter(ctx) // what cannot be listed has perhaps nothing to do with the pool: unsure tells
	if done, err := d.deleteLeft(ctx, pool); done != "" || err != nil {
		return done, err
	}
	var errs []error
	for _, m := range d.expendable(pool, kept, time.Now()) {
		if why := d.unsure(m.ID); why != nil {
			errs = append(errs, fmt.Errorf("set %s is left alone: not all of it is known: %w", m.ID, why))
			continue
		}
		err := d.deleteSet(ctx, m.ID)
		if err == nil {
			d.changed()
			return fmt.Sprintf("set %s of policy %s, taken %s", m.ID, m.Policy, m.Created.UTC().Format(time.RFC3339)), nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil || !d.exists(m.ID) || d.unsure(m.ID) != nil {
			break
		}
	}
	if len(errs) == 0 {
		errs = append(errs, d.nothingExpendable())
	}
	return "", fmt.Errorf("no set is deleted for the room of %s: %w", pool, errors.Join(errs...))
}

// deleteLeft removes what is left in a pool of sets whose deletion has begun, and says which.
func (d *Daemon) deleteLeft(ctx context.Context, pool string) (string, error) {
	d.mu.Lock()
	half := slices.Clone(d.contents.Half)
	d.mu.Unlock()
	half = slices.DeleteFunc(half, func(s provider.Snapshot) bool {
		used, _ := d.inUse([]provider.Snapshot{s}) // then it cannot be removed, and must not keep others from it
		return used || s.Pool != pool
	})
	if len(half) == 0 {
		return "", nil
	}
	ids := map[string]bool{}
	for _, s := range half {
		ids[s.Set.ID] = true
	}
	text := "what was left of set " + strings.Join(slices.Sorted(maps.Keys(ids)), ", ")
	err := d.remove(ctx, half)
	if refreshErr := d.refreshAfter(ctx); refreshErr != nil {
		d.o.Log.Warn("sets were deleted, but", "pool", pool, "error", refreshErr)
	}
	if err != nil {
		return "", late(fmt.Errorf("cannot remove %s, and no other one is begun for the room of %s: %w", text, pool, err))
	}
	return text, nil
}

// nothingExpendable is ErrNothing, unless there may be sets that nobody has told of.
func (d *Daemon) nothingExpendable() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.unheard) > 0 {
		return errors.Join(slices.Collect(maps.Values(d.unheard))...)
	}
	return acts.ErrNothing
}

// expendable lists the sets with a snapshot in a pool that may go, the least valuable first: of each policy that says what it
// keeps, in the order of its retention; of several policies, the oldest first.
func (d *Daemon) expendable(pool string, kept bool, now time.Time) []api.Manifest {
	var out []api.Manifest
	for _, name := range slices.Sorted(maps.Keys(d.o.Config.Policies)) {
		r := d.o.Config.Policies[name].Retention
		if r.Empty() {
			continue
		}
		sets := d.setsOf(name)
		byID := map[string]api.Manifest{}
		for _, m := range sets {
			byID[m.ID] = m
		}
		known := d.retained(sets, r)
		for _, id := range expendable(r, known, kept, now) {
			if d.livesIn(id, pool) {
				out = append(out, byID[id])
			}
		}
	}
	slices.SortStableFunc(out, func(a, b api.Manifest) int { return a.Created.Compare(b.Created) })
	return out
}

// expendable are the sets that may go of those that retention keeps, or of those that it drops.
func expendable(r config.Retention, sets []retention.Set, kept bool, now time.Time) []string {
	keep := map[string]bool{}
	for _, v := range retention.Apply(r, sets, now) {
		keep[v.ID] = v.Keep
	}
	return slices.DeleteFunc(retention.Expendable(r, sets, now), func(id string) bool { return keep[id] != kept })
}

// retained is what retention has to know of sets, oldest first, when room is short: what is pinned by a label, in use, or the last
// that was verified as good, is protected.
func (d *Daemon) retained(sets []api.Manifest, r config.Retention) []retention.Set {
	verified := -1
	for i, m := range sets {
		if m.Verified != nil && m.Verified.OK && m.State == api.Complete && !m.Passing {
			verified = i
		}
	}
	var out []retention.Set
	for i, m := range sets {
		s := d.retainable(m)
		switch {
		case s.Protected != "":
		case i == verified:
			s.Protected = "it is the last one that was verified as good"
		case r.Pins(m.Labels):
			s.Protected = "a label keeps it"
		}
		out = append(out, s)
	}
	return out
}

// livesIn reports whether a set has a snapshot in a pool.
func (d *Daemon) livesIn(id, pool string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.contents.Snapshots[id], func(s provider.Snapshot) bool { return s.Pool == pool })
}
