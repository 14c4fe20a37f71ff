package fsfreeze

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Pauses between attempts to release something that cannot be released yet.
const (
	releasePause    = 2 * time.Millisecond
	releasePauseMax = 200 * time.Millisecond
	// releasingTime is how long somebody who lives and has begun to release something is trusted to do it.
	releasingTime = 100 * time.Millisecond
)

// Release ends one hold that another process took, whatever state it is in: a held thing is released at once; one that the
// kernel is still busy taking (FIFREEZE cannot be interrupted, and completes even after its process has died) is released as
// soon as it is taken; one that was never taken is forbidden from now on; one that its holder was about to release, and has
// not for a while or never will, is released too. It reports whether it was Release that released it.
//
// release makes one attempt: nil when it let go, EINVAL when there was nothing to let go (FITHAW's answer), anything else
// is tried again until patience is over. While the kernel is busy taking it for somebody who lives, there is no end to that:
// whoever gave up would leave it frozen as soon as the kernel is done. gone reports that the other process cannot be at it any more, because it is dead:
// what is not held then never will be, and what it was about to release nobody else will. nil: nobody knows, and whoever
// is about to release something is trusted to do it.
//
// It allocates nothing before patience is over, unless release does.
func Release(c *Cell, release func() error, patience time.Duration, gone func() bool) (bool, error) {
	hesitate := time.Now().Add(releasingTime)
	pause := releasePause
	for end := time.Now().Add(patience); ; {
		if c.Forbid() {
			return false, nil
		}
		if c.Seize() || c.Overtake() {
			return retry(c, release, patience, gone)
		}
		switch s := c.State(); {
		case s == Idle || s == Taking || s == Held:
		case s == Released || gone == nil:
			return false, nil
		case gone(), s == Releasing && time.Now().After(hesitate):
			// Its FITHAW may have been the last thing that it did. Then this one finds nothing, unless somebody else has
			// frozen it in between, and loses his freeze; not to try would be to leave it frozen for ever.
			if c.Inherit(s) {
				return retry(c, release, patience, gone)
			}
		case s != Overtaken && time.Now().After(end):
			return false, fmt.Errorf("gave up after %v: it is %v by somebody who lives", patience, s)
		default:
			pause = rest(pause)
		}
	}
}

// Reclaim is Release for the process that took it, once it may be alone: whatever state the other process, a releaser, has
// left it in when it died, of which gone tells. What its own threads are about to release it leaves to them, and what the
// other one has seized is left to that while it lives. It is called once for a cell: then nobody else can be at it.
func Reclaim(c *Cell, release func() error, patience time.Duration, gone func() bool) (bool, error) {
	pause := releasePause
	for end := time.Now().Add(patience); ; pause = rest(pause) {
		if c.Forbid() {
			return false, nil
		}
		if c.Seize() || c.Overtake() {
			return retry(c, release, patience, nil)
		}
		switch s := c.State(); {
		case s == Released:
			return false, nil
		case (s == Seized || s == Overtaken) && gone():
			// As in Release, FITHAW may have been the last thing that it did.
			return retry(c, release, patience, nil)
		case s != Overtaken && time.Now().After(end):
			return false, fmt.Errorf("gave up after %v: it is %v by somebody who lives", patience, s)
		}
	}
}

// retry releases what is the caller's to release. What is not frozen is done with if it was taken, or never will be.
//
// Until whoever takes it has said how that ended, what is let go may be somebody else's: Linux 6.6 and newer let a second
// FIFREEZE wait until the first one is complete, and then refuse it, or freeze, if the first one was thawed in between. So that
// is awaited, and what has been taken then is let go, too.
func retry(c *Cell, release func() error, patience time.Duration, gone func() bool) (released bool, err error) {
	var end time.Time // of patience, which is for what the kernel has taken or never will
	for pause := releasePause; ; pause = rest(pause) {
		// Asked first: the kernel may finish taking it between the attempt and the question.
		s := c.State()
		if s == Released {
			return released, nil // the kernel refused to take it after all
		}
		final := s == Seized || gone != nil && gone()
		if final && end.IsZero() {
			end, pause = time.Now().Add(patience), releasePause
		}
		if released && !final {
			continue
		}
		err := release()
		if err == nil {
			released, pause = true, releasePause
		}
		switch {
		case final && (err == nil || errors.Is(err, unix.EINVAL)): // EINVAL: somebody else has let it go, or it was never taken
			c.Done()
			return released, nil
		case final && time.Now().After(end):
			return released, fmt.Errorf("gave up after %v: %w", patience, err)
		}
	}
}

// rest waits for a moment, and says how long to wait the next time.
func rest(pause time.Duration) (next time.Duration) {
	nap(pause)
	return min(2*pause, releasePauseMax)
}

// nap sleeps in the kernel: the runtime's own timers allocate, and need a thread that may not be there.
func nap(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil) // a signal ends it early, which is as well
}
