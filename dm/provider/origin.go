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
	// ErrOvertaken: the deadline passed, and the guard releases what was held.
	ErrOvertaken = errors.New("the deadline passed first")
)

// origin is a volume that is suspended while the set is captured, with its ioctls prepared. The suspend skips the
// filesystem freeze: the filesystem is frozen already, and a second freeze fails or leaks (see docs/adr/0001).
type origin struct {
	dev             dm.Dev
	name            string
	suspend, resume interface{ Do() error }
	hold            Hold
}

func newOrigin(c *dm.Control, v Volume) *origin {
	return &origin{
		dev: v.Dev, name: v.Name,
		suspend: c.PrepareSuspend(v.Dev, dm.SkipLockFS),
		resume:  c.PrepareResume(v.Dev, dm.SkipLockFS),
	}
}

// stop suspends the origin: its writers in flight have finished, later ones wait.
func (o *origin) stop() error {
	if o.hold == nil {
		return fmt.Errorf("internal error: no guard watches %s", o.name)
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

// start resumes the origin if it is ours to resume.
func (o *origin) start() error {
	if o.hold == nil || !o.hold.Claim() {
		return nil
	}
	if err := o.resume.Do(); err != nil {
		o.hold.Unclaim()
		return err
	}
	o.hold.Done()
	return nil
}
