package dm

import "golang.org/x/sys/unix"

// PrepareRelease prepares the resume of a device that somebody may have suspended. The function that it returns makes one
// attempt, two ioctls, and waits for neither udev nor a device node; it answers EINVAL as long as the device is not
// suspended. One goroutine may call it at a time.
func (c *Control) PrepareRelease(dev Dev) func() error {
	info, resume := c.PrepareInfo(dev), c.PrepareResume(dev, SkipLockFS)
	return func() error {
		if err := info.Do(); err != nil {
			return err
		}
		if !info.Suspended() {
			return unix.EINVAL
		}
		return resume.Do()
	}
}
