package dm

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Call is an ioctl that is laid out in advance, for the freeze window: Do neither allocates nor logs nor looks anything
// up, so that it cannot wait for a filesystem that is frozen. Everything that can be wrong with its arguments shows when
// it is prepared, or as an errno of Do.
//
// A Call serves one goroutine at a time; different Calls of one Control may run side by side.
type Call struct {
	control *Control
	request request
	buf     []byte
	err     error // what was wrong with the arguments
}

// PrepareSuspend prepares a suspend. A device that is suspended already stays so without an error; PrepareInfo tells.
func (c *Control) PrepareSuspend(dev Dev, flags SuspendFlags) *Call {
	return c.prepare(suspendRequest(ByDev(dev), flags), 0)
}

// PrepareResume prepares a resume, which also makes an inactive table live. udev treats the event as one that changes
// nothing about the device's names.
func (c *Control) PrepareResume(dev Dev, flags SuspendFlags) *Call {
	return c.prepare(resumeRequest(ByDev(dev), flags, 0), 0)
}

// PrepareResumeUdev is PrepareResume with flags for udev, such as UdevPrivate.
func (c *Control) PrepareResumeUdev(dev Dev, flags SuspendFlags, udev UdevFlags) *Call {
	return c.prepare(resumeRequest(ByDev(dev), flags, udev.eventNr()), 0)
}

// PrepareMessage prepares a message to the target that maps a sector.
func (c *Control) PrepareMessage(dev Dev, sector uint64, msg string) *Call {
	return c.prepare(messageRequest(ByDev(dev), sector, msg), 0)
}

// PrepareInfo prepares a query of the device's state; Suspended and EventNr tell it.
func (c *Control) PrepareInfo(dev Dev) *Call {
	return c.prepare(request{op: "query", cmd: unix.DM_DEV_STATUS, ref: ByDev(dev)}, 0)
}

// PrepareStatus prepares a status of the live table, of at most 4 KiB; Params gives that of the first target.
func (c *Control) PrepareStatus(dev Dev, flags StatusFlags) *Call {
	return c.prepare(statusRequest(ByDev(dev), flags), 4096)
}

func (c *Control) prepare(q request, room int) *Call {
	call := &Call{control: c, request: q, err: q.ref.check()}
	// An error should name the device as its administrator does.
	if info, err := c.Info(q.ref); err == nil {
		call.request.label = info.Name
	}
	call.buf = make([]byte, q.size(room))
	call.request.fill(call.buf)
	return call
}

// Do runs the ioctl; again, if it was done before. Its error is an *Error with the errno.
func (c *Call) Do() error {
	if c.err != nil {
		return c.err
	}
	c.request.fill(c.buf)
	if errno := ioctl(c.control.fd, c.request.cmd, c.buf); errno != 0 {
		return c.request.fail(errno)
	}
	if head(c.buf).Flags&unix.DM_BUFFER_FULL_FLAG != 0 {
		return c.request.fail(unix.EMSGSIZE)
	}
	return nil
}

// Suspended tells whether the device was suspended when the last successful Do returned.
func (c *Call) Suspended() bool { return head(c.buf).Flags&unix.DM_SUSPEND_FLAG != 0 }

// EventNr of the device when the last successful Do returned.
func (c *Call) EventNr() uint32 { return head(c.buf).Event_nr }

// Params is what the first target reported in the last Do of a call by PrepareStatus, or "". It is only valid until the
// next Do, and does not allocate; ParseThinPool of it does not either, unless it fails.
func (c *Call) Params() string {
	b := answer(c.buf)
	if head(c.buf).Target_count == 0 || len(b) <= specSize {
		return ""
	}
	b = b[specSize:]
	n := 0
	for n < len(b) && b[n] != 0 {
		n++
	}
	for n > 0 && b[n-1] == ' ' {
		n--
	}
	return unsafe.String(unsafe.SliceData(b), n)
}
