package provider

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
)

// slide is how an origin stands to the snapshot-origin that is slid under it.
//
//	before    data → disks
//	armed     data → disks, and inactive data → real → disks
//	slid      data → real → disks
type slide struct {
	origin           dm.Info
	live, inactive   []dm.Target // of the origin
	real             dm.Info     // zero: there is none
	original         []dm.Target // that of the copy
	originGone, used bool        // used: the live table maps the copy, in whatever way
}

// slid: the origin writes through dm-snapshot.
func (s slide) slid() bool {
	return s.real.Dev != 0 && slices.Equal(s.live, over(s.real.Dev, sectors(s.original)))
}

// armed: the next resume makes it so.
func (s slide) armed() bool {
	return s.real.Dev != 0 && slices.Equal(s.inactive, over(s.real.Dev, sectors(s.original)))
}

// own: the origin maps what it mapped before.
func (s slide) own() bool { return s.real.Dev == 0 || slices.Equal(s.live, s.original) }

// kept is nil if what snapshots of the origin need is in place, or will be with the next resume.
func (s slide) kept() error {
	switch {
	case s.originGone:
		return fmt.Errorf("%w: the origin is gone", ErrChanged)
	case s.slid(), s.armed() && s.own():
		return nil
	}
	return fmt.Errorf("%w: %s has got another table", ErrChanged, s.origin.Name)
}

// look asks the kernel.
func (p *DM) look(origin dm.Dev) (s slide, err error) {
	if s.live, s.origin, err = p.control.Table(dm.ByDev(origin)); errors.Is(err, unix.ENXIO) {
		s.originGone = true
	} else if err != nil {
		return s, err
	} else if s.inactive, _, err = p.control.TableInactive(dm.ByDev(origin)); err != nil {
		return s, err
	}
	s.original, s.real, err = p.control.Table(dm.ByUUID(realUUID + origin.String()))
	if err != nil && !errors.Is(err, unix.ENXIO) {
		return s, err
	}
	if s.real.Dev != 0 && !s.originGone {
		deps, err := p.control.Deps(dm.ByDev(origin))
		if err != nil {
			return s, err
		}
		s.used = slices.Contains(deps, s.real.Dev)
	}
	return s, nil
}

// hasSnapshots tells whether an origin has any, captured or not.
func (p *DM) hasSnapshots(origin dm.Dev) (bool, error) {
	all, err := p.control.List()
	return slices.ContainsFunc(all, func(e dm.ListEntry) bool {
		return strings.HasPrefix(e.UUID, snapUUID+origin.String()+"-")
	}), err
}

// private keeps udev from looking for filesystems on a device: what it found there would be a second one with the
// origin's label and uuid.
const private = dm.UdevPrivate

// slideIn makes sure that the origin is slid over a copy of its table, or will be with its next resume. settle undoes it.
func (p *DM) slideIn(origin dm.Dev) (slide, error) {
	s, err := p.look(origin)
	if err != nil {
		return s, err
	}
	if s.slid() {
		return s, nil
	}
	if s.real.Dev != 0 && !s.own() { // of a table that is no more
		if has, err := p.hasSnapshots(origin); err != nil {
			return s, err
		} else if has {
			return s, fmt.Errorf("%w: %s has got another table: delete its snapshots first, they are not true any more", ErrChanged, s.origin.Name)
		}
		if err := p.settle(origin); err != nil {
			return s, err
		}
		s.real = dm.Info{}
	}
	if len(s.inactive) > 0 && !s.armed() {
		return s, fmt.Errorf("cannot snapshot %s: somebody has loaded a table into it that is not live yet (dmsetup resume %s, or dmsetup clear %s)",
			s.origin.Name, s.origin.Name, s.origin.Name)
	}
	if s.real.Dev == 0 {
		_, err = p.control.Create(realName(origin), realUUID+origin.String(), dm.CreateOpts{
			Table: s.live, ReadOnly: s.origin.ReadOnly,
			Resume: dm.ResumeOpts{Udev: private | dm.UdevDisableDM, NoNode: true},
		})
		if err != nil {
			return s, err
		}
		if s, err = p.look(origin); err != nil {
			return s, err
		}
	}
	err = p.control.Load(dm.ByDev(origin), over(s.real.Dev, sectors(s.original)), s.origin.ReadOnly)
	if errors.Is(err, unix.EINVAL) {
		err = fmt.Errorf("%w (dmesg tells why the kernel does not let dm-snapshot take the place of its target)", err)
	}
	return s, err
}

// settle gives an origin without snapshots its own table back, exactly as it was. Somebody else's table is left alone.
func (p *DM) settle(origin dm.Dev) error {
	s, err := p.look(origin)
	if err != nil || s.real.Dev == 0 {
		return err
	}
	if has, err := p.hasSnapshots(origin); err != nil || has {
		return err
	}
	switch ref := dm.ByDev(origin); {
	case s.originGone:
	case s.slid():
		if s.origin.Suspended {
			return fmt.Errorf("cannot give %s its own table back: somebody has suspended it (dmsetup resume %s)", s.origin.Name, s.origin.Name)
		}
		if len(s.inactive) > 0 {
			return fmt.Errorf("cannot give %s its own table back: somebody has loaded another one (dmsetup resume %s, or dmsetup clear %s)",
				s.origin.Name, s.origin.Name, s.origin.Name)
		}
		if err := p.control.Load(ref, s.original, s.origin.ReadOnly); err != nil {
			return err
		}
		// One call suspends, swaps and resumes: whoever dies beside it leaves nothing suspended.
		if err := p.control.Resume(ref, dm.SkipLockFS); err != nil {
			return err
		}
	case s.armed():
		if err := p.control.Clear(ref); err != nil {
			return err
		}
	case s.used:
		return fmt.Errorf("%w: the table of %s maps %s, and is none of Fermata's: let it map what %s maps (dmsetup table %s), then delete again",
			ErrChanged, s.origin.Name, s.real.Name, s.real.Name, s.real.Name)
	}
	return p.removeDevice(s.real.Name)
}

// removeDevice removes a device of ours, if it exists.
func (p *DM) removeDevice(name string) error {
	info, err := p.control.Info(dm.ByName(name))
	if errors.Is(err, unix.ENXIO) {
		return nil
	}
	if err != nil {
		return err
	}
	if !strings.HasPrefix(info.UUID, ownUUID) {
		return fmt.Errorf("cannot remove %s: it is none of Fermata's", name)
	}
	err = p.control.Remove(dm.ByDev(info.Dev), false)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w: it is in use (lsblk, and fuser -m %s, tell by whom)", err, dm.NodePath(name))
	}
	return err
}
