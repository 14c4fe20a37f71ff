package provider

import (
	"errors"
	"fmt"

	"github.com/fermata-project/fermata/dm"
)

var (
	// ErrNoRoom: a pool has less free space than the set must find.
	ErrNoRoom = errors.New("not enough room")
	// ErrPool: the pool is not healthy, so writes may have been lost.
	ErrPool = errors.New("the pool is not healthy")
	// ErrChanged: somebody changed the volume group between arming and the freeze.
	ErrChanged = errors.New("somebody changed the pool since the snapshots were armed")
	// ErrNoVolumes: the provider never takes a volume, whichever it is.
	ErrNoVolumes = errors.New("it takes no volumes")
	// ErrSuspended: somebody else had suspended the volume when we came. It is not ours to resume.
	ErrSuspended = errors.New("somebody else has suspended it; it is theirs to resume (dmsetup resume)")
	// ErrResumed: somebody else resumed the volume while we held it: the hold did not last.
	ErrResumed = errors.New("somebody else resumed it during the hold")
	// ErrOvertaken: the deadline passed, and the guard releases what was held.
	ErrOvertaken = errors.New("the deadline passed first")
)

// origin is a volume that is suspended while the set is captured, with its ioctls prepared. The suspend skips the
// filesystem freeze: the filesystem is frozen already, and a second freeze fails or leaks (see docs/adr/0001).
type origin struct {
	dev             dm.Dev
	name            string
	info            query
	suspend, resume interface{ Do() error }
	hold            Hold
	resumed         bool // by somebody else, during the hold
}

// query asks for a device's state.
type query interface {
	Do() error
	Suspended() bool
}

func newOrigin(c *dm.Control, v Volume) *origin {
	return &origin{
		dev: v.Dev, name: v.Name,
		info:    c.PrepareInfo(v.Dev),
		suspend: c.PrepareSuspend(v.Dev, dm.SkipLockFS),
		resume:  c.PrepareResume(v.Dev, dm.SkipLockFS),
	}
}

// stop suspends the origin: its writers in flight have finished, later ones wait. The kernel does not tell whether it was
// suspended before, so that is asked just before; and before the hold is begun, for a guard that took it over would resume
// what is somebody else's.
func (o *origin) stop() error {
	if o.hold == nil {
		return fmt.Errorf("internal error: no guard watches %s", o.name)
	}
	if err := o.info.Do(); err != nil {
		return err
	}
	if o.info.Suspended() {
		return fmt.Errorf("cannot suspend %s: %w", o.name, ErrSuspended)
	}
	if !o.hold.Begin() {
		return fmt.Errorf("cannot suspend %s: %w", o.name, ErrOvertaken)
	}
	err := o.suspend.Do()
	if ours := o.hold.Took(err == nil); err == nil && !ours {
		return fmt.Errorf("cannot suspend %s: %w", o.name, ErrOvertaken)
	}
	return err
}

// start resumes the origin if it is ours to resume. One that is not suspended any more is left as it is, and broken tells of
// it; one that cannot be asked is resumed.
func (o *origin) start() error {
	if o.hold == nil || !o.hold.Claim() {
		return nil
	}
	if o.info.Do() == nil && !o.info.Suspended() {
		o.resumed = true
	} else if err := o.resume.Do(); err != nil {
		o.hold.Unclaim()
		return err
	}
	o.hold.Done()
	return nil
}

// broken is ErrResumed if the hold did not last, as far as start saw.
func (o *origin) broken() error {
	if o.resumed {
		return fmt.Errorf("cannot resume %s: %w", o.name, ErrResumed)
	}
	return nil
}
