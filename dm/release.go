package dm

import (
	"errors"

	"golang.org/x/sys/unix"
)

// ErrNotResumed: the kernel answers EINVAL to the resume of a device that is suspended.
var ErrNotResumed = errors.New("it is still suspended: the kernel refuses the resume as an invalid argument (dmesg tells why)")

// PrepareRelease prepares the resume of a device that somebody may have suspended. The function that it returns makes one
// attempt, two ioctls or three, and waits for neither udev nor a device node; it answers EINVAL as long as the device is not
// suspended, and only then. One goroutine may call it at a time.
func (c *Control) PrepareRelease(dev Dev) func() error {
	info, resume := c.PrepareInfo(dev), c.PrepareResume(dev, SkipLockFS)
	return func() error { return release(info, resume) }
}

type (
	action interface{ Do() error }
	query  interface {
		action
		Suspended() bool
	}
)

func release(info query, resume action) error {
	if err := info.Do(); err != nil {
		return err
	}
	if !info.Suspended() {
		return unix.EINVAL
	}
	err := resume.Do()
	if errors.Is(err, unix.EINVAL) { // it drops the inactive table that it cannot make live (do_resume, dm-ioctl.c), and leaves the device suspended
		err = resume.Do()
	}
	if errors.Is(err, unix.EINVAL) {
		return ErrNotResumed
	}
	return err
}
