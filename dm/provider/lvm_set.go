package provider

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/lvm"
)

// lvmSet is what sets of LVM volumes have in common, however the volumes are captured.
type lvmSet struct {
	*lvmVolumes
	provider string
	remove   func(ctx context.Context, lvs ...string) error
	members  []*lvmMember
	locks    []*lvm.Lock
}

type lvmMember struct {
	*origin
	vg, lv   string
	snapshot string // LV name
	volume   Volume
	set      Set
	capture  interface{ Do() error }
}

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

// groupsOf are the volume groups of volumes, in the order of their names, which is that in which LVM itself locks.
func groupsOf(vols []Volume) []string {
	var vgs []string
	for _, v := range vols {
		vg, _, _ := strings.Cut(v.Name, "/")
		vgs = append(vgs, vg)
	}
	slices.Sort(vgs)
	return slices.Compact(vgs)
}

// add makes a member of a volume. It is one before anything exists of it: a command that was left behind by a time limit
// may still make its snapshot, and Abort removes it then.
func (e *lvmSet) add(set Set, v Volume) *lvmMember {
	vg, lv, _ := strings.Cut(v.Name, "/")
	m := &lvmMember{
		origin: newOrigin(e.control, v), vg: vg, lv: lv, snapshot: snapshotName(vg, lv, set.ID, len(e.members)),
		volume: v, set: set,
	}
	e.members = append(e.members, m)
	return m
}

func (e *lvmSet) Origins() []dm.Dev {
	devs := make([]dm.Dev, len(e.members))
	for i, m := range e.members {
		devs[i] = m.dev
	}
	return devs
}

func (e *lvmSet) Watch(holds []Hold) {
	for i, m := range e.members {
		m.hold = nil
		if holds != nil {
			m.hold = holds[i]
		}
	}
}

// lock takes LVM's locks of the volume groups, and keeps them if check then finds everything as it should be.
func (e *lvmSet) lock(ctx context.Context, check func() error) error {
	var vols []Volume
	for _, m := range e.members {
		vols = append(vols, m.volume)
	}
	for _, vg := range groupsOf(vols) {
		l, err := e.lvm.LockVG(ctx, vg)
		if err != nil {
			return errors.Join(err, e.Unlock())
		}
		e.locks = append(e.locks, l)
	}
	if err := errors.Join(check(), e.unsuspended()); err != nil {
		return errors.Join(err, e.Unlock())
	}
	return nil
}

func (e *lvmSet) Unlock() error {
	var errs []error
	for _, l := range e.locks {
		errs = append(errs, l.Unlock())
	}
	e.locks = nil
	return errors.Join(errs...)
}

// unsuspended refuses volumes that somebody else has suspended: they are theirs to resume.
func (e *lvmSet) unsuspended() error {
	for _, m := range e.members {
		info, err := e.control.Info(dm.ByDev(m.dev))
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

func (e *lvmSet) PreCommit() error {
	for _, m := range e.members {
		if err := m.stop(); err != nil {
			return err
		}
	}
	return nil
}

func (e *lvmSet) Commit() error {
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

func (e *lvmSet) PostCommit() error {
	var errs error
	for _, m := range e.members {
		if err := m.start(); err != nil {
			errs = errors.Join(errs, err)
		}
	}
	return errs
}

// After it.

// Verify looks whether the hold lasted; what else must be true, the provider knows.
func (e *lvmSet) Verify() error {
	var errs []error
	for _, m := range e.members {
		errs = append(errs, m.broken())
	}
	return errors.Join(errs...)
}

func (e *lvmSet) Finalize(ctx context.Context, f Final) ([]Snapshot, error) {
	if err := e.lvm.ChangeTags(ctx, e.names(), finalTags(f), []string{tagArmed}); err != nil {
		return nil, err
	}
	var out []Snapshot
	for _, m := range e.members {
		out = append(out, Snapshot{
			Provider: e.provider, Set: m.set, Name: m.vg + "/" + m.snapshot, Origin: m.volume.Name, Size: m.volume.Size,
			MountPoint: m.volume.MountPoint, FSType: m.volume.FSType, Options: m.volume.Options,
			Consistency: f.Consistency, Created: f.Created, Machine: e.host.Machine, Host: e.host.Name,
		})
	}
	return out, nil
}

func (e *lvmSet) names() []string {
	var names []string
	for _, m := range e.members {
		names = append(names, m.vg+"/"+m.snapshot)
	}
	return names
}

// Abort removes what exists of the set's snapshots, which only LVM knows for sure. A command that a time limit has left
// behind may still make one: the report waits for its end a moment, and is refused if it does not come (lvm.ErrLeftBehind).
func (e *lvmSet) Abort(ctx context.Context) error {
	inventory, err := e.lvm.Report(ctx)
	if err != nil {
		return fmt.Errorf("cannot remove the armed snapshots: %w", err)
	}
	var exist []string
	for _, m := range e.members {
		if _, ok := inventory.LV(m.vg, m.snapshot); ok {
			exist = append(exist, m.vg+"/"+m.snapshot)
		}
	}
	return e.remove(ctx, exist...)
}
