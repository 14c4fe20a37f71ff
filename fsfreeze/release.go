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
)

// Release ends one hold, whatever state it is in: a held thing is released at once; one that the kernel is still busy
// taking (FIFREEZE cannot be interrupted, and completes even after its process has died) is released as soon as it is
// taken; one that was never taken is forbidden from now on. It reports whether it was Release that released it.
//
// release makes one attempt: nil when it let go, EINVAL when there was nothing to let go (FITHAW's answer), anything else
// is tried again until patience is over.
func Release(c *Cell, release func() error, patience time.Duration) (bool, error) {
	for {
		switch {
		case c.Forbid():
			return false, nil
		case c.Claim():
			return retry(c, release, patience, false)
		case c.Overtake():
			return retry(c, release, patience, true)
		}
		if s := c.State(); s != Idle && s != Taking && s != Held {
			return false, nil // released, or somebody is at it
		}
	}
}

func retry(c *Cell, release func() error, patience time.Duration, overtaken bool) (bool, error) {
	end := time.Now().Add(patience)
	for pause := releasePause; ; pause = min(2*pause, releasePauseMax) {
		err := release()
		if err == nil {
			c.Done()
			return true, nil
		}
		if errors.Is(err, unix.EINVAL) {
			if !overtaken {
				c.Done() // somebody else thawed it: nothing is frozen any more
				return false, nil
			}
			if c.State() != Overtaken {
				return false, nil // the kernel refused to take it after all
			}
		}
		if time.Now().After(end) {
			return false, fmt.Errorf("gave up after %v: %w", patience, err)
		}
		time.Sleep(pause)
	}
}
