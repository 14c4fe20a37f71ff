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

// Release ends one hold, whatever state it is in: a held thing is released at once; one that the kernel is still busy
// taking (FIFREEZE cannot be interrupted, and completes even after its process has died) is released as soon as it is
// taken; one that was never taken is forbidden from now on; one that its holder was about to release, and has not for a
// while or never will, is released too. It reports whether it was Release that released it.
//
// release makes one attempt: nil when it let go, EINVAL when there was nothing to let go (FITHAW's answer), anything else
// is tried again until patience is over. gone reports that whoever was taking it cannot be at it any more, because it is
// dead: what is not held then never will be, and what it was about to release nobody else will. nil: nobody knows, and
// whoever is about to release something is trusted to do it.
//
// It allocates nothing before patience is over, unless release does.
func Release(c *Cell, release func() error, patience time.Duration, gone func() bool) (bool, error) {
	hesitate := time.Now().Add(releasingTime)
	for {
		switch {
		case c.Forbid():
			return false, nil
		case c.Claim():
			return retry(c, release, patience, func() bool { return true })
		case c.Overtake():
			return retry(c, release, patience, gone)
		}
		switch s := c.State(); {
		case s == Idle || s == Taking || s == Held:
		case s != Releasing || gone == nil:
			return false, nil // released, or somebody is at it
		case !gone() && time.Now().Before(hesitate):
			nap(releasePause)
		case c.Inherit():
			// Its FITHAW may have been the last thing that it did. Then this one finds nothing, unless somebody else has
			// frozen it in between, and loses his freeze; not to try would be to leave it frozen for ever.
			return retry(c, release, patience, func() bool { return true })
		}
	}
}

func retry(c *Cell, release func() error, patience time.Duration, settled func() bool) (bool, error) {
	end := time.Now().Add(patience)
	for pause := releasePause; ; pause = min(2*pause, releasePauseMax) {
		final := settled != nil && settled() // asked first: the kernel may finish taking it between the attempt and the question
		err := release()
		if err == nil {
			c.Done()
			return true, nil
		}
		if errors.Is(err, unix.EINVAL) {
			if final {
				c.Done() // somebody else has let it go, or it was never taken
				return false, nil
			}
			if c.State() != Overtaken {
				return false, nil // the kernel refused to take it after all
			}
		}
		if time.Now().After(end) {
			return false, fmt.Errorf("gave up after %v: %w", patience, err)
		}
		nap(pause)
	}
}

// nap sleeps in the kernel: the runtime's own timers allocate, and need a thread that may not be there.
func nap(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil) // a signal ends it early, which is as well
}
