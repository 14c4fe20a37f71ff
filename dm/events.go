package dm

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Events waits for something to happen to any device: a pool that fills up or changes its mode, a snapshot that becomes
// invalid, a device that is made, resumed, renamed or removed. What happened has to be found out by List: an event of a
// target raises its device's event number, the others change the list itself, or nothing.
//
// A control node's descriptor becomes readable when an event has happened since it was armed (dev_arm_poll and dm_poll,
// dm-ioctl.c; Linux 4.14). So it is armed before the caller lists: an event in between wakes the next Wait.
//
//	e, err := dm.NewEvents()
//	list()
//	for e.Wait(ctx) == nil {
//		list()
//	}
type Events struct {
	control *Control
	wake    int // eventfd that ends a poll when the context does
}

// NewEvents opens a control node for events and arms it. An Events serves one goroutine at a time.
func NewEvents() (*Events, error) {
	c, err := Open()
	if err != nil {
		return nil, err
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("eventfd", err), c.Close())
	}
	e := &Events{control: c, wake: wake}
	if err := e.arm(); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// Close frees the descriptors. No Wait may be under way.
func (e *Events) Close() error {
	return errors.Join(e.control.Close(), os.NewSyscallError("close", unix.Close(e.wake)))
}

// Wait returns nil when there were events since the last Wait, or since NewEvents, armed anew; or the context's error.
func (e *Events) Wait(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	one := []byte{1, 0, 0, 0, 0, 0, 0, 0}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		unix.Write(e.wake, one) // an eventfd that is full wakes as well
		close(woken)
	})
	happened, err := e.poll()
	if !stop() {
		// The write must not be left over for the next Wait.
		<-woken
		unix.Read(e.wake, one)
	}
	if err != nil {
		return fmt.Errorf("cannot wait for device-mapper events: %w", err)
	}
	if !happened {
		return ctx.Err()
	}
	return e.arm()
}

func (e *Events) poll() (happened bool, err error) {
	fds := []unix.PollFd{{Fd: int32(e.control.fd), Events: unix.POLLIN}, {Fd: int32(e.wake), Events: unix.POLLIN}}
	for {
		switch _, err := unix.Poll(fds, -1); err {
		case nil:
			return fds[0].Revents != 0, nil
		case unix.EINTR:
		default:
			return false, err
		}
	}
}

func (e *Events) arm() error {
	q := request{op: "wait for device-mapper events", cmd: unix.DM_DEV_ARM_POLL}
	_, err := e.control.do(&q, 0)
	return err
}
