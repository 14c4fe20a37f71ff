package provider

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/lvm"
)

// thinSet is Thin's part in one set.
type thinSet struct {
	provider *Thin
	members  []*thinMember
	pools    map[dm.Dev]*thinPool
	locks    []*lvm.Lock
}

type thinMember struct {
	*origin
	vg, lv   string
	snapshot string // LV name
	volume   Volume
	set      Set
	pool     dm.Dev
	originID uint32
	empty    string // the message that takes the thin device away
	capture  interface{ Do() error }
}

type thinPool struct {
	name        string
	transaction uint64 // LVM's and the kernel's, since arming
}

// abortPatience is how long Abort waits for LVM commands of ours that were left behind.
const abortPatience = 5 * time.Minute

// maxDMName is the longest device-mapper name (DM_NAME_LEN in include/uapi/linux/dm-ioctl.h, with its final zero).
const maxDMName = 127

// snapshotName names a snapshot of an LV: the LV's name, shortened if need be, and the set's id. i tells volumes of one
// set apart whose names were shortened.
func snapshotName(vg, lv, id string, i int) string {
	name := lv + "." + id
	for over := true; over; {
		if over = len(dm.JoinLVMName(vg, name, "")) > maxDMName-len("-tpool")-len(ScratchSuffix); over {
			lv = lv[:len(lv)-1]
			name = fmt.Sprintf("%s.%d.%s", lv, i, id)
		}
	}
	return name
}

// Prepare arms the volumes: what fails half-way is undone by Abort of the enlistment that is returned all the same.
func (p *Thin) Prepare(ctx context.Context, set Set, vols []Volume) (Enlistment, error) {
	e := &thinSet{provider: p, pools: map[dm.Dev]*thinPool{}}
	for i, v := range vols {
		vg, lv, _ := strings.Cut(v.Name, "/")
		t, err := p.table(v.Dev)
		if err != nil {
			return e, err
		}
		m := &thinMember{
			origin: newOrigin(p.control, v), vg: vg, lv: lv, snapshot: snapshotName(vg, lv, set.ID, i),
			volume: v, set: set, pool: t.Pool, originID: t.ID,
		}
		if err := p.lvm.CreateThinSnapshot(ctx, vg, lv, m.snapshot, true, tagsOf(set, v)...); err != nil {
			// A command that was left behind by a time limit may still make it: Abort waits, and removes it.
			e.members = append(e.members, m)
			return e, fmt.Errorf("cannot arm a snapshot of %s: %w", v.Name, err)
		}
		e.members = append(e.members, m)
	}
	return e, e.load(ctx)
}

// load empties the thin devices behind LVM's records and prepares the messages that take them again.
func (e *thinSet) load(ctx context.Context) error {
	inventory, err := e.provider.lvm.Report(ctx)
	if err != nil {
		return err
	}
	for _, m := range e.members {
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
		m.capture = e.provider.control.PrepareMessage(m.pool, 0, fmt.Sprintf("create_snap %d %d", id, m.originID))
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
	for _, m := range e.members {
		if err := e.provider.control.Message(dm.ByDev(m.pool), 0, m.empty); err != nil {
			return fmt.Errorf("cannot arm a snapshot of %s: %w", m.volume.Name, err)
		}
	}
	return nil
}

func (e *thinSet) Origins() []dm.Dev {
	devs := make([]dm.Dev, len(e.members))
	for i, m := range e.members {
		devs[i] = m.dev
	}
	return devs
}

func (e *thinSet) Watch(holds []Hold) {
	for i, m := range e.members {
		m.hold = nil
		if holds != nil {
			m.hold = holds[i]
		}
	}
}

// Lock takes LVM's locks of the volume groups, in the order of their names as LVM itself does, and looks whether
// somebody has changed a pool since it was armed: then the thin device ids may not be ours any more.
func (e *thinSet) Lock(ctx context.Context) error {
	var vgs []string
	for _, m := range e.members {
		vgs = append(vgs, m.vg)
	}
	slices.Sort(vgs)
	for _, vg := range slices.Compact(vgs) {
		l, err := e.provider.lvm.LockVG(ctx, vg)
		if err != nil {
			return errors.Join(err, e.Unlock())
		}
		e.locks = append(e.locks, l)
	}
	if err := errors.Join(e.unchanged(), e.unsuspended()); err != nil {
		return errors.Join(err, e.Unlock())
	}
	return nil
}

func (e *thinSet) Unlock() error {
	var errs []error
	for _, l := range e.locks {
		errs = append(errs, l.Unlock())
	}
	e.locks = nil
	return errors.Join(errs...)
}

func (e *thinSet) unchanged() error {
	for dev, pool := range e.pools {
		s, _, err := e.provider.poolStatus(dev)
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

// unsuspended refuses volumes that somebody else has suspended: they are theirs to resume.
func (e *thinSet) unsuspended() error {
	for _, m := range e.members {
		info, err := e.provider.control.Info(dm.ByDev(m.dev))
		if err != nil {
			return err
		}
		if info.Suspended {
			return fmt.Errorf("cannot suspend %s: somebody else has suspended it (dmsetup resume %s)", m.name, info.Name)
		}
	}
	return nil
}

// Inside the freeze window.

func (e *thinSet) PreCommit() error {
	for _, m := range e.members {
		if err := m.stop(); err != nil {
			return err
		}
	}
	return nil
}

func (e *thinSet) Commit() error {
	for _, m := range e.members {
		if !m.hold.Held() { // past the deadline Abort may have removed the record: a capture would be nobody's
			return fmt.Errorf("cannot capture %s: %w", m.name, ErrOvertaken)
		}
		if err := m.capture.Do(); err != nil {
			return err
		}
	}
	return nil
}

func (e *thinSet) PostCommit() error {
	var errs error
	for _, m := range e.members {
		if err := m.start(); err != nil {
			errs = errors.Join(errs, err)
		}
	}
	return errs
}

// After it.

func (e *thinSet) Verify() error { return e.unchanged() }

func (e *thinSet) Finalize(ctx context.Context, f Final) ([]Snapshot, error) {
	if err := e.provider.lvm.ChangeTags(ctx, e.names(), finalTags(f), []string{tagArmed}); err != nil {
		return nil, err
	}
	var out []Snapshot
	for _, m := range e.members {
		out = append(out, Snapshot{
			Provider: e.provider.Name(), Set: m.set, Name: m.vg + "/" + m.snapshot, Origin: m.volume.Name, Size: m.volume.Size,
			MountPoint: m.volume.MountPoint, FSType: m.volume.FSType, Options: m.volume.Options, Consistency: f.Consistency, Created: f.Created,
		})
	}
	return out, nil
}

func (e *thinSet) names() []string {
	var names []string
	for _, m := range e.members {
		names = append(names, m.vg+"/"+m.snapshot)
	}
	return names
}

// Abort removes what exists of the set's snapshots, which only LVM knows for sure.
func (e *thinSet) Abort(ctx context.Context) error {
	// A command that a time limit has left behind may still make a snapshot.
	patience, cancel := context.WithTimeout(ctx, abortPatience)
	defer cancel()
	if err := e.provider.lvm.Wait(patience); err != nil {
		return fmt.Errorf("cannot remove the armed snapshots: an lvm command does not end: %w", err)
	}
	inventory, err := e.provider.lvm.Report(ctx)
	if err != nil {
		return fmt.Errorf("cannot remove the armed snapshots: %w", err)
	}
	var exist []string
	for _, m := range e.members {
		if _, ok := inventory.LV(m.vg, m.snapshot); ok {
			exist = append(exist, m.vg+"/"+m.snapshot)
		}
	}
	return e.provider.lvm.Remove(ctx, exist...)
}
