package dm

import "golang.org/x/sys/unix"

// Error is a device-mapper command that the kernel refused. Compare with errors.Is and an errno: ENXIO means that there
// is no such device, EBUSY that it is open or in use, EEXIST that a name or UUID is taken, EINVAL often a table that the
// target did not like: then dmesg says why.
type Error struct {
	Op     string // what was asked for: "suspend", "load a table into"
	Device string // name, UUID or number, as the caller gave it; empty if the command concerns no device
	Errno  unix.Errno
}

func (e *Error) Error() string {
	if e.Device == "" {
		return "cannot " + e.Op + ": " + e.Errno.Error()
	}
	return "cannot " + e.Op + " " + e.Device + ": " + e.Errno.Error()
}

// Unwrap gives the errno, of type syscall.Errno.
func (e *Error) Unwrap() error { return e.Errno }
