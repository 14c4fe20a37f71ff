package dm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Info is the state of a device (struct dm_ioctl).
type Info struct {
	Name, UUID      string
	Dev             Dev
	OpenCount       int32  // how often the device is open; a mount counts once
	EventNr         uint32 // rises with every event that a target raises (dm_table_event)
	TargetCount     uint32 // targets of the live table
	Suspended       bool   // a suspend is in force, whoever did it
	ReadOnly        bool
	LiveTable       bool
	InactiveTable   bool // a table is loaded that the next Resume makes live
	InternalSuspend bool // suspended by the kernel for its own purposes
	DeferredRemove  bool // goes away with its last close
}

func infoOf(h *unix.DmIoctl) Info {
	is := func(flag uint32) bool { return h.Flags&flag != 0 }
	return Info{
		Name: cString(h.Name[:]), UUID: cString(h.Uuid[:]), Dev: Dev(h.Dev),
		OpenCount: h.Open_count, EventNr: h.Event_nr, TargetCount: h.Target_count,
		Suspended: is(unix.DM_SUSPEND_FLAG), ReadOnly: is(unix.DM_READONLY_FLAG),
		LiveTable: is(unix.DM_ACTIVE_PRESENT_FLAG), InactiveTable: is(unix.DM_INACTIVE_PRESENT_FLAG),
		InternalSuspend: is(unix.DM_INTERNAL_SUSPEND_FLAG), DeferredRemove: is(unix.DM_DEFERRED_REMOVE),
	}
}

// SuspendFlags say how a device is suspended.
type SuspendFlags uint32

const (
	// SkipLockFS leaves the mounted filesystem alone. Whoever holds it frozen by FIFREEZE must say so, on Resume with
	// an inactive table too.
	SkipLockFS SuspendFlags = unix.DM_SKIP_LOCKFS_FLAG
	// NoFlush pushes outstanding I/O back instead of waiting for it. It implies SkipLockFS (__dm_suspend, dm.c).
	NoFlush SuspendFlags = unix.DM_NOFLUSH_FLAG
)

const suspendMask = SkipLockFS | NoFlush

// UdevFlags tell udev's device-mapper rules what to leave out (DM_UDEV_* in libdevmapper.h).
type UdevFlags uint16

const (
	UdevDisableDM        UdevFlags = 0x01 // make no names in /dev/mapper
	UdevDisableSubsystem UdevFlags = 0x02 // leave out the rules of LVM and the like
	UdevDisableDisk      UdevFlags = 0x04 // make no /dev/disk/by-*, do not look for filesystems
	UdevDisableOther     UdevFlags = 0x08 // leave out all other rules
	UdevLowPriority      UdevFlags = 0x10 // another device with the same contents has precedence
	udevPrimarySource    UdevFlags = 0x40 // this event was asked for, it is not a spurious one

	// UdevPrivate is for devices that nobody but their maker should look at.
	UdevPrivate = UdevDisableSubsystem | UdevDisableDisk | UdevDisableOther
)

// eventNr carries udev flags to the kernel, which hands them on as DM_COOKIE. Without a semaphore's number in its lower
// half the cookie only carries flags: udev notifies nobody.
func (f UdevFlags) eventNr() uint32 { return uint32(f|udevPrimarySource) << 16 }

// ResumeOpts of ResumeWith. The zero value is the ordinary case.
type ResumeOpts struct {
	Flags  SuspendFlags // as for Resume
	Udev   UdevFlags
	NoNode bool // do not wait for, or make, the node in /dev/mapper
}

// CreateOpts of Create. The zero value makes a device without a table.
type CreateOpts struct {
	Table    []Target // if set, it is loaded and resumed too
	ReadOnly bool     // of the table
	Resume   ResumeOpts
}

// Create makes a device. With a table in opts, it is ready in /dev/mapper afterwards; if that fails, there is no device.
// A name may hold the characters that udev leaves as they are: letters, digits and #+-.:=@_
func (c *Control) Create(name, uuid string, opts CreateOpts) (Info, error) {
	if err := checkNewName(name); err != nil {
		return Info{}, fmt.Errorf("cannot create device: %w", err)
	}
	if err := (Ref{UUID: uuid}).check(); uuid != "" && err != nil {
		return Info{}, fmt.Errorf("cannot create device %s: %w", name, err)
	}
	q := request{op: "create device", cmd: unix.DM_DEV_CREATE, ref: ByName(name), uuid: uuid}
	buf, err := c.do(&q, 0)
	if err != nil {
		return Info{}, err
	}
	info := infoOf(head(buf))
	if opts.Table == nil {
		return info, nil
	}
	ref := ByDev(info.Dev)
	if err = c.Load(ref, opts.Table, opts.ReadOnly); err == nil {
		err = c.ResumeWith(ref, opts.Resume)
	}
	if err == nil {
		info, err = c.Info(ref)
	}
	if err != nil {
		return Info{}, errors.Join(err, c.Remove(ref, false))
	}
	return info, nil
}

// Suspend holds back I/O to a device after waiting for what is under way. A device that is suspended already stays so,
// and that is no error: look at Info first to tell one's own suspend from somebody else's.
func (c *Control) Suspend(ref Ref, flags SuspendFlags) error {
	q := suspendRequest(ref, flags)
	_, err := c.doRef(&q, 0)
	return err
}

// Resume makes an inactive table live, if there is one, and lets I/O go on. It returns when the device's node is in
// /dev/mapper. The flags are for the suspend that the kernel does by itself when there is an inactive table.
func (c *Control) Resume(ref Ref, flags SuspendFlags) error {
	return c.ResumeWith(ref, ResumeOpts{Flags: flags})
}

// ResumeWith is Resume with options for udev and the node.
func (c *Control) ResumeWith(ref Ref, opts ResumeOpts) error {
	q := resumeRequest(ref, opts.Flags, opts.Udev.eventNr())
	buf, err := c.doRef(&q, 0)
	if err != nil || opts.NoNode || opts.Udev&UdevDisableDM != 0 {
		return err
	}
	info := infoOf(head(buf))
	if !info.LiveTable {
		return nil
	}
	return EnsureNode(info.Name, info.Dev)
}

func suspendRequest(ref Ref, flags SuspendFlags) request {
	return request{op: "suspend", cmd: unix.DM_DEV_SUSPEND, ref: ref, flags: unix.DM_SUSPEND_FLAG | uint32(flags&suspendMask)}
}

func resumeRequest(ref Ref, flags SuspendFlags, eventNr uint32) request {
	return request{op: "resume", cmd: unix.DM_DEV_SUSPEND, ref: ref, flags: uint32(flags & suspendMask), eventNr: eventNr}
}

// busyRetry is how long Remove goes on when the device is open: udev opens every new device for a moment.
const busyRetry = time.Second

// Remove takes a device away. If it is open, deferred lets it go with its last close; otherwise the error is EBUSY.
func (c *Control) Remove(ref Ref, deferred bool) error {
	info, err := c.Info(ref)
	if err != nil {
		return during("remove", err)
	}
	q := request{op: "remove", cmd: unix.DM_DEV_REMOVE, ref: ref, eventNr: UdevFlags(0).eventNr()}
	if deferred {
		q.flags = unix.DM_DEFERRED_REMOVE
	}
	end := time.Now().Add(busyRetry)
	for {
		buf, err := c.doRef(&q, 0)
		switch {
		case err == nil && deferred && head(buf).Flags&unix.DM_DEFERRED_REMOVE != 0:
			return nil
		case err == nil:
			return RemoveNode(info.Name, info.Dev)
		case !errors.Is(err, unix.EBUSY) || !udevRuns() || time.Now().After(end):
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Rename gives a device another name.
func (c *Control) Rename(ref Ref, newName string) error {
	if err := checkNewName(newName); err != nil {
		return fmt.Errorf("cannot rename %s: %w", ref, err)
	}
	old, err := c.rename("rename", ref, newName, 0)
	if err != nil || !old.LiveTable {
		return err
	}
	return errors.Join(RemoveNode(old.Name, old.Dev), EnsureNode(newName, old.Dev))
}

// SetUUID gives a UUID to a device that has none; the kernel refuses to change one (EINVAL).
func (c *Control) SetUUID(ref Ref, uuid string) error {
	if err := (Ref{UUID: uuid}).check(); err != nil {
		return fmt.Errorf("cannot set UUID of %s: %w", ref, err)
	}
	_, err := c.rename("set UUID of", ref, uuid, unix.DM_UUID_FLAG)
	return err
}

// rename changes name or UUID and gives the state from before. The kernel finds the device by its name only
// (dm_hash_rename, dm-ioctl.c).
func (c *Control) rename(op string, ref Ref, to string, flags uint32) (Info, error) {
	old, err := c.Info(ref)
	if err != nil {
		return Info{}, during(op, err)
	}
	q := request{op: op, cmd: unix.DM_DEV_RENAME, ref: ByName(old.Name), label: ref.String(), flags: flags,
		eventNr: UdevFlags(0).eventNr(), payload: append([]byte(to), 0)}
	_, err = c.doRef(&q, 0)
	return old, err
}

// Info says how a device is. The error is ENXIO if there is none.
func (c *Control) Info(ref Ref) (Info, error) {
	q := request{op: "query", cmd: unix.DM_DEV_STATUS, ref: ref}
	buf, err := c.doRef(&q, 0)
	if err != nil {
		return Info{}, err
	}
	return infoOf(head(buf)), nil
}

// Deps lists the devices that the live table uses. A device that has no table yet, as one that LVM is making, uses none.
func (c *Control) Deps(ref Ref) ([]Dev, error) {
	q := request{op: "list dependencies of", cmd: unix.DM_TABLE_DEPS, ref: ref}
	buf, err := c.doRef(&q, roomDefault)
	if err != nil {
		return nil, err
	}
	devs, err := parseDeps(answer(buf))
	if err != nil {
		return nil, fmt.Errorf("cannot list dependencies of %s: %w", ref, err)
	}
	return devs, nil
}

// parseDeps reads struct dm_target_deps: count, padding, device numbers.
func parseDeps(b []byte) ([]Dev, error) {
	if len(b) == 0 { // no live table (table_deps, dm-ioctl.c)
		return nil, nil
	}
	if len(b) < 8 {
		return nil, errAnswer
	}
	n, b := uint64(binary.NativeEndian.Uint32(b)), b[8:]
	if n > uint64(len(b)/8) {
		return nil, errAnswer
	}
	devs := make([]Dev, n)
	for i := range devs {
		devs[i] = Dev(binary.NativeEndian.Uint64(b[8*i:]))
	}
	return devs, nil
}

// errAnswer is what a truncated or inconsistent answer of the kernel ends in.
var errAnswer = errors.New("internal error: the kernel's answer cannot be read")

// during makes the error of a query that of the operation which it was made for.
func during(op string, err error) error {
	var e *Error
	if errors.As(err, &e) {
		return &Error{Op: op, Device: e.Device, Errno: e.Errno}
	}
	return err
}

// plainName are the characters that neither libdevmapper nor udev escape in a name.
const plainName = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789#+-.:=@_"

func checkNewName(name string) error {
	switch {
	case name == "" || name == "." || name == ".." || name == unix.DM_CONTROL_NODE:
		return fmt.Errorf("invalid device name %s", quote(name))
	case len(name) >= unix.DM_NAME_LEN:
		return fmt.Errorf("invalid device name %s: it has to be shorter than %d bytes", quote(name), unix.DM_NAME_LEN)
	case strings.Trim(name, plainName) != "":
		return fmt.Errorf("invalid device name %s: only letters, digits and #+-.:=@_ may stand in it", quote(name))
	}
	return nil
}
