package provider

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
)

// thickSet is Thick's part in one set.
type thickSet struct {
	lvmSet
	thick *Thick
	parks []*parked // of members, in their order
}

// parked is an armed snapshot: its device has a table of errors, and its copy-on-write area is empty.
type parked struct {
	*lvmMember
	control *dm.Control
	device  dm.Info        // of the snapshot, as LVM made it
	chunk   uint64         // bytes
	cow     dm.Info        // its copy-on-write area
	tables  [3][]dm.Target // of origin, copy-on-write area and snapshot, as LVM made them
}

// Prepare arms the volumes: what fails half-way is undone by Abort of the enlistment that is returned all the same.
func (p *Thick) Prepare(ctx context.Context, set Set, vols []Volume) (Enlistment, error) {
	e := &thickSet{thick: p, lvmSet: lvmSet{lvmVolumes: &p.lvmVolumes, provider: p.Name(), remove: p.remove}}
	for _, v := range vols {
		m := e.add(set, v)
		size := cowSize(v, p.cow)
		if err := p.lvm.CreateThickSnapshot(ctx, m.vg, m.lv, m.snapshot, size, cowChunk, tagsOf(p.host, set, v)...); err != nil {
			return e, fmt.Errorf("cannot arm a snapshot of %s: %w", v.Name, err)
		}
		Armed(ctx)
	}
	return e, e.arm(ctx)
}

// arm parks all snapshots, after the last LVM command: making one snapshot reloads the tables of its origin's others.
func (e *thickSet) arm(ctx context.Context) (err error) {
	if err := e.lock(ctx, e.find); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.lvmSet.Unlock()) }()
	for _, m := range e.parks {
		for _, step := range m.arming() {
			if err := step(); err != nil {
				return fmt.Errorf("cannot arm a snapshot of %s: %w", m.volume.Name, err)
			}
		}
		m.capture = e.control.PrepareResumeUdev(m.device.Dev, dm.SkipLockFS, dm.UdevPrivate|dm.UdevLowPriority)
	}
	return nil
}

// find looks up what LVM made.
func (e *thickSet) find() error {
	for _, m := range e.members {
		x := &parked{lvmMember: m, control: e.control}
		if err := x.find(); err != nil {
			return fmt.Errorf("cannot arm a snapshot of %s: %w", m.volume.Name, err)
		}
		e.parks = append(e.parks, x)
	}
	return nil
}

func (m *parked) find() (err error) {
	ref := dm.ByName(dm.JoinLVMName(m.vg, m.snapshot, ""))
	if m.tables[2], m.device, err = m.control.Table(ref); err != nil {
		return orChanged(err)
	}
	if len(m.tables[2]) != 1 || m.tables[2][0].Type != "snapshot" {
		return fmt.Errorf("%w: %s has another table", ErrChanged, m.device.Name)
	}
	t, err := dm.ParseSnapshotTable(m.tables[2][0].Params)
	if err != nil {
		return err
	}
	m.chunk = t.ChunkSize * 512
	if m.tables[1], m.cow, err = m.control.Table(dm.ByDev(t.COW)); err != nil {
		return orChanged(err)
	}
	if m.tables[0], _, err = m.control.Table(dm.ByDev(m.dev)); err != nil {
		return orChanged(err)
	}
	want := dm.SnapshotOriginTable{Dest: t.Origin}.String()
	if len(m.tables[0]) != 1 || m.tables[0][0].Type != "snapshot-origin" || m.tables[0][0].Params != want {
		return fmt.Errorf("%w: %s is not the origin of %s", ErrChanged, m.name, m.device.Name)
	}
	return nil
}

// orChanged is the error of a device that should be there.
func orChanged(err error) error {
	if errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("%w: %w", ErrChanged, err)
	}
	return err
}

// errorTable is what a snapshot is parked on.
func (m *parked) errorTable() []dm.Target {
	return []dm.Target{{Length: m.tables[2][0].Length, Type: "error"}}
}

// arming are the steps from the snapshot that LVM made to one that is parked. They can stop after each of them.
//
// The old target must be gone before the area is emptied and the new one made: a new one beside an old one of the same area
// takes over what that has copied (snapshot_resume in drivers/md/dm-snap.c).
func (m *parked) arming() []func() error {
	ref := dm.ByDev(m.device.Dev)
	return []func() error{
		func() error { return m.control.Load(ref, m.errorTable(), m.device.ReadOnly) },
		// udev should not read from it: it would log errors.
		func() error {
			return m.control.ResumeWith(ref, dm.ResumeOpts{Flags: dm.SkipLockFS, Udev: dm.UdevPrivate | dm.UdevLowPriority, NoNode: true})
		},
		m.emptyArea,
	}
}

// emptyArea makes the copy-on-write area one that was never used, durably: a power cut must not bring back what was
// copied since lvcreate. Nobody else may have it open meanwhile.
func (m *parked) emptyArea() (err error) {
	path := dm.NodePath(m.cow.Name)
	if err := dm.EnsureNode(m.cow.Name, m.cow.Dev); err != nil {
		return err
	}
	failed := func(err error) error { return fmt.Errorf("cannot empty %s: %w", path, err) }
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_DIRECT|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		return failed(err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return failed(err)
	}
	if dm.Dev(st.Rdev) != m.cow.Dev {
		return failed(fmt.Errorf("%w: it is another device", ErrChanged))
	}
	zeros, err := unix.Mmap(-1, 0, int(m.chunk), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON) // aligned
	if err != nil {
		return failed(err)
	}
	defer func() { err = errors.Join(err, unix.Munmap(zeros)) }()
	if n, err := unix.Pwrite(fd, zeros, 0); err != nil {
		return failed(err)
	} else if n != len(zeros) {
		return failed(fmt.Errorf("only %d bytes were written", n))
	}
	if err := unix.Fdatasync(fd); err != nil {
		return failed(err)
	}
	return nil
}

// Lock takes LVM's locks of the volume groups, and looks whether the snapshots are still parked as they were: every change
// that LVM makes to an active volume shows in device-mapper's tables, so that no command is needed to see it. Then it loads
// their tables, which lays out the empty areas: from here on a resume captures.
func (e *thickSet) Lock(ctx context.Context) error {
	if err := e.lock(ctx, e.unchanged); err != nil {
		return err
	}
	for _, m := range e.parks {
		if err := m.load(); err != nil {
			return errors.Join(fmt.Errorf("cannot arm a snapshot of %s: %w", m.volume.Name, err), e.Unlock())
		}
	}
	return nil
}

// Unlock leaves no snapshot that was not captured with a table in waiting: see Thick.unload.
func (e *thickSet) Unlock() error {
	var errs []error
	if len(e.locks) > 0 {
		for _, m := range e.parks {
			errs = append(errs, e.thick.unload(dm.ByDev(m.device.Dev)))
		}
	}
	return errors.Join(append(errs, e.lvmSet.Unlock())...)
}

// load gives the snapshot its own table as the inactive one.
func (m *parked) load() error {
	return m.control.Load(dm.ByDev(m.device.Dev), m.tables[2], m.device.ReadOnly)
}

func (e *thickSet) unchanged() error {
	for _, m := range e.parks {
		if err := m.unchanged(); err != nil {
			return err
		}
	}
	return nil
}

func (m *parked) unchanged() error {
	ref := dm.ByDev(m.device.Dev)
	live, info, err := m.control.Table(ref)
	if err != nil {
		return orChanged(err)
	}
	cow, _, err := m.control.Table(dm.ByDev(m.cow.Dev))
	if err != nil {
		return orChanged(err)
	}
	origin, _, err := m.control.Table(dm.ByDev(m.dev))
	if err != nil {
		return orChanged(err)
	}
	same := info.Name == m.device.Name && info.UUID == m.device.UUID && slices.Equal(live, m.errorTable()) &&
		!info.InactiveTable && slices.Equal(cow, m.tables[1]) && slices.Equal(origin, m.tables[0])
	if !same {
		return fmt.Errorf("%w: %s or its origin %s was activated, extended or renamed", ErrChanged, m.device.Name, m.name)
	}
	return nil
}

// Verify looks whether the copy-on-write areas have held since the capture.
func (e *thickSet) Verify() error {
	if err := e.lvmSet.Verify(); err != nil {
		return err
	}
	for _, m := range e.parks {
		u, err := e.thick.Usage(Snapshot{Name: m.vg + "/" + m.snapshot})
		if err != nil {
			return orChanged(err)
		}
		if u.Invalid {
			return fmt.Errorf("%w: the copy-on-write area of %s has overflowed or failed already (give it more room: cow)", ErrPool, m.device.Name)
		}
	}
	return nil
}

// Finalize has udev look at the snapshots, which it was told to leave alone while they were parked, and makes them visible.
func (e *thickSet) Finalize(ctx context.Context, f Final) ([]Snapshot, error) {
	for _, m := range e.parks {
		ref := dm.ByDev(m.device.Dev)
		if err := e.control.Suspend(ref, dm.SkipLockFS); err != nil {
			return nil, err
		}
		if err := e.control.ResumeWith(ref, dm.ResumeOpts{Flags: dm.SkipLockFS, Udev: dm.UdevLowPriority}); err != nil {
			return nil, err
		}
	}
	return e.lvmSet.Finalize(ctx, f)
}
