package provider

import (
	"context"
	"errors"
	"fmt"

	"github.com/fermata-project/fermata/dm"
)

// thinSet is Thin's part in one set.
type thinSet struct {
	lvmSet
	thin  *Thin
	loads []thinLoad // of members, in their order
	pools map[dm.Dev]*thinPool
}

// thinLoad is what arming a member must know of its thin devices.
type thinLoad struct {
	*lvmMember
	pool     dm.Dev
	originID uint32
	table    dm.Target // of the origin, before it was armed
	empty    string    // the message that takes the thin device away
}

type thinPool struct {
	name        string
	transaction uint64 // LVM's and the kernel's, since arming
}

// Prepare arms the volumes: what fails half-way is undone by Abort of the enlistment that is returned all the same.
func (p *Thin) Prepare(ctx context.Context, set Set, vols []Volume) (Enlistment, error) {
	e := &thinSet{thin: p, lvmSet: lvmSet{lvmVolumes: &p.lvmVolumes, provider: p.Name(), remove: p.lvm.Remove}, pools: map[dm.Dev]*thinPool{}}
	for _, v := range vols {
		t, live, err := p.table(v.Dev)
		if err != nil {
			return e, err
		}
		m := e.add(set, v)
		if err := p.lvm.CreateThinSnapshot(ctx, m.vg, m.lv, m.snapshot, true, tagsOf(p.host, set, v)...); err != nil {
			return e, fmt.Errorf("cannot arm a snapshot of %s: %w", v.Name, err)
		}
		e.loads = append(e.loads, thinLoad{lvmMember: m, pool: t.Pool, originID: t.ID, table: live})
		Armed(ctx)
	}
	return e, e.load(ctx)
}

// load empties the thin devices behind LVM's records and prepares the messages that take them again.
func (e *thinSet) load(ctx context.Context) error {
	inventory, err := e.lvm.Report(ctx)
	if err != nil {
		return err
	}
	for i := range e.loads {
		m := &e.loads[i]
		snap, ok := inventory.LV(m.vg, m.snapshot)
		if !ok || snap.ThinID == nil {
			return fmt.Errorf("cannot arm a snapshot of %s: %w: %s is gone", m.volume.Name, ErrChanged, m.snapshot)
		}
		pool, ok := inventory.LV(m.vg, snap.Pool)
		if !ok || pool.TransactionID == nil {
			return fmt.Errorf("internal error: LVM does not tell the pool of %s", m.snapshot)
		}
		id := *snap.ThinID
		m.empty = fmt.Sprintf("delete %d", id)
		e.pools[m.pool] = &thinPool{name: pool.FullName(), transaction: *pool.TransactionID}
		m.capture = e.control.PrepareMessage(m.pool, 0, fmt.Sprintf("create_snap %d %d", id, m.originID))
	}
	return e.empty(ctx)
}

// empty takes the thin devices away, under LVM's lock and after another look: an id that somebody has freed and used again
// since the report would be a volume of theirs.
func (e *thinSet) empty(ctx context.Context) (err error) {
	if err := e.Lock(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Unlock()) }()
	for _, m := range e.loads {
		if err := e.control.Message(dm.ByDev(m.pool), 0, m.empty); err != nil {
			return fmt.Errorf("cannot arm a snapshot of %s: %w", m.volume.Name, err)
		}
	}
	return nil
}

// Lock takes LVM's locks of the volume groups, and looks whether somebody has changed a pool since it was armed: then the
// thin device ids may not be ours any more. Origins are looked at, too: a resize leaves the pool's transaction as it was, and
// LVM's records of the snapshots with the old size.
func (e *thinSet) Lock(ctx context.Context) error {
	return e.lock(ctx, func() error { return errors.Join(e.unchanged(), e.sameOrigins()) })
}

// sameOrigins is only for as long as the lock is held: what becomes of an origin later is nothing to its snapshot.
func (e *thinSet) sameOrigins() error {
	for _, m := range e.loads {
		_, live, err := e.thin.table(m.dev)
		if err != nil {
			return orChanged(err)
		}
		if live != m.table {
			return fmt.Errorf("%w: its volume %s was resized, or has got another table", ErrChanged, m.name)
		}
	}
	return nil
}

func (e *thinSet) unchanged() error {
	for dev, pool := range e.pools {
		s, _, err := e.thin.poolStatus(dev)
		if err != nil {
			return err
		}
		if err := healthy(pool.name, s); err != nil {
			return err
		}
		if s.TransactionID != pool.transaction {
			return fmt.Errorf("%w: %s is at transaction %d and was at %d", ErrChanged, pool.name, s.TransactionID, pool.transaction)
		}
	}
	return nil
}

func (e *thinSet) Verify() error { return errors.Join(e.lvmSet.Verify(), e.unchanged()) }

// Finalize makes the set visible, and tells what Snapshots will.
func (e *thinSet) Finalize(ctx context.Context, f Final) ([]Snapshot, error) {
	snaps, err := e.lvmSet.Finalize(ctx, f)
	for i := range snaps {
		snaps[i].Pool = e.pools[e.loads[i].pool].name
	}
	return snaps, err
}
