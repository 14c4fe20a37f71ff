package provider

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
)

// dmSet is DM's part in one set.
type dmSet struct {
	provider *DM
	members  []*dmMember
	lock     *storageLock
}

type dmMember struct {
	*origin
	device  string // the origin's
	uuid    string
	record  record
	table   []dm.Target // of the snapshot
	capture interface{ Do() error }
}

// Prepare arms the volumes: what fails half-way is undone by Abort of the enlistment that is returned all the same.
func (p *DM) Prepare(ctx context.Context, set Set, vols []Volume) (Enlistment, error) {
	e := &dmSet{provider: p}
	if err := p.Admit(ctx, vols); err != nil {
		return e, err
	}
	return e, p.locked(ctx, func() error {
		for i, v := range vols {
			m := &dmMember{origin: newOrigin(p.control, v), device: v.Device, uuid: v.UUID, record: record{
				Name: dmSnapshotName(v.Name, set.ID, i), Device: v.Dev.String(), Set: set, Origin: v.Name,
				MountPoint: v.MountPoint, FSType: v.FSType, Options: v.Options, Size: v.Size, COW: p.areaSize(v), Armed: true,
			}}
			e.members = append(e.members, m)
			if err := p.arm(m); err != nil {
				return fmt.Errorf("cannot arm a snapshot of %s: %w", v.Name, err)
			}
			Armed(ctx)
		}
		return nil
	})
}

// arm makes everything of a snapshot but the instant: drop and settle undo it. The record comes first, so that whoever
// starts after a crash knows where to look.
func (p *DM) arm(m *dmMember) error {
	if err := p.write(m.record); err != nil {
		return err
	}
	area, err := p.makeArea(m.record)
	if err != nil {
		return err
	}
	s, err := p.slideIn(m.dev)
	if err != nil {
		return err
	}
	snap, err := p.control.Create(ownName+m.record.Name, m.record.uuid(), dm.CreateOpts{})
	if err != nil {
		return err
	}
	// "N": the exceptions live in memory, for the tables do not survive a reboot either.
	params := dm.SnapshotTable{Origin: s.real.Dev, COW: area, Store: "N", ChunkSize: p.chunk / 512}.String()
	m.table = []dm.Target{{Length: sectors(s.original), Type: "snapshot", Params: params}}
	if err := p.control.Load(dm.ByDev(snap.Dev), m.table, true); err != nil {
		return err
	}
	m.capture = p.control.PrepareResumeUdev(snap.Dev, dm.SkipLockFS, private)
	return nil
}

func (e *dmSet) Origins() []dm.Dev {
	devs := make([]dm.Dev, len(e.members))
	for i, m := range e.members {
		devs[i] = m.dev
	}
	return devs
}

func (e *dmSet) Watch(holds []Hold) {
	for i, m := range e.members {
		m.hold = nil
		if holds != nil {
			m.hold = holds[i]
		}
	}
}

// Lock takes the storage's lock, and looks whether everything is as it was armed. Device-mapper has no lock that would
// keep others from changing it later: Verify looks again.
func (e *dmSet) Lock(ctx context.Context) (err error) {
	if err := e.provider.usable(); err != nil {
		return err
	}
	if e.lock, err = e.provider.lock(ctx); err != nil {
		return err
	}
	for _, m := range e.members {
		err = errors.Join(err, e.provider.ready(m))
	}
	if err != nil {
		return errors.Join(err, e.Unlock())
	}
	return nil
}

func (e *dmSet) Unlock() error {
	l := e.lock
	e.lock = nil
	return l.unlock()
}

// ready is nil if a snapshot can be taken.
func (p *DM) ready(m *dmMember) error {
	s, err := p.look(m.dev)
	if err != nil {
		return err
	}
	if err := s.kept(); err != nil {
		return err
	}
	if s.origin.Name != m.device || s.origin.UUID != m.uuid {
		return fmt.Errorf("%w: %s is called %s", ErrChanged, m.name, s.origin.Name)
	}
	if s.origin.Suspended {
		return fmt.Errorf("cannot suspend %s: somebody else has suspended it (dmsetup resume %s)", m.name, s.origin.Name)
	}
	table, _, err := p.control.TableInactive(dm.ByUUID(m.record.uuid()))
	if errors.Is(err, unix.ENXIO) || err == nil && !slices.Equal(table, m.table) {
		return fmt.Errorf("%w: the armed snapshot of %s is gone", ErrChanged, m.name)
	}
	return err
}

// Inside the freeze window.

func (e *dmSet) PreCommit() error {
	for _, m := range e.members {
		if err := m.stop(); err != nil {
			return err
		}
	}
	return nil
}

func (e *dmSet) Commit() error {
	for _, m := range e.members {
		if !m.hold.Held() {
			return fmt.Errorf("cannot capture %s: %w", m.name, ErrOvertaken)
		}
		if err := m.capture.Do(); err != nil {
			return err
		}
	}
	return nil
}

// PostCommit resumes the origins, which slides snapshot-origin under them.
func (e *dmSet) PostCommit() error {
	var errs error
	for _, m := range e.members {
		if err := m.start(); err != nil {
			errs = errors.Join(errs, err)
		}
	}
	return errs
}

// After it.

// Verify: the origins write through dm-snapshot, and the snapshots have kept everything so far.
func (e *dmSet) Verify() error {
	errs := []error{e.provider.usable()}
	for _, m := range e.members {
		s, err := e.provider.look(m.dev)
		switch {
		case err != nil:
		case !s.slid():
			err = fmt.Errorf("%w: %s has got another table", ErrChanged, m.name)
		default:
			err = e.provider.good(m)
		}
		errs = append(errs, m.broken(), err)
	}
	return errors.Join(errs...)
}

func (p *DM) good(m *dmMember) error {
	u, err := p.Usage(m.record.snapshot())
	if err == nil && u.Invalid {
		err = fmt.Errorf("%w: the copy-on-write area of %s has overflowed, or could not be written (give it more than %s: cow)",
			ErrPool, m.name, mebibytes(m.record.COW))
	}
	return err
}

func (e *dmSet) Finalize(_ context.Context, f Final) ([]Snapshot, error) {
	var out []Snapshot
	for _, m := range e.members {
		r := m.record
		r.Armed, r.Consistency, r.Created = false, f.Consistency, f.Created
		if err := e.provider.write(r); err != nil {
			return nil, err
		}
		out = append(out, r.snapshot())
	}
	return out, nil
}

// Abort removes what exists of the set's snapshots.
func (e *dmSet) Abort(ctx context.Context) error {
	var snaps []Snapshot
	for _, m := range e.members {
		snaps = append(snaps, m.record.snapshot())
	}
	if err := e.provider.Delete(ctx, snaps); err != nil {
		return fmt.Errorf("cannot remove the armed snapshots: %w", err)
	}
	return nil
}
