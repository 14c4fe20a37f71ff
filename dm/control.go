package dm

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Control is an open control node. Its methods may be called from several goroutines at a time. They may block: a
// suspend waits for I/O that is under way.
type Control struct {
	fd     int
	closed sync.Once
}

// Open opens /dev/mapper/control, making the node if it is missing. It needs root. The kernel loads its device-mapper
// module by itself.
func Open() (*Control, error) {
	fd, err := openControl()
	if err != nil {
		return nil, err
	}
	c := &Control{fd: fd}
	major, minor, patch, err := c.Version()
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if major != unix.DM_VERSION_MAJOR {
		err := fmt.Errorf("cannot use device-mapper: the kernel's interface is %d.%d.%d, Fermata knows version %d",
			major, minor, patch, unix.DM_VERSION_MAJOR)
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func openControl() (int, error) {
	const flags = unix.O_RDWR | unix.O_CLOEXEC
	fd, err := unix.Open(controlPath, flags, 0)
	if err == unix.ENOENT || err == unix.ENXIO || err == unix.ENODEV {
		if mkErr := makeControlNode(); mkErr != nil {
			return -1, fmt.Errorf("cannot open %s: %w", controlPath, mkErr)
		}
		fd, err = unix.Open(controlPath, flags, 0)
	}
	switch err {
	case nil:
		return fd, nil
	case unix.EACCES, unix.EPERM:
		return -1, fmt.Errorf("cannot open %s: %w (device-mapper needs root)", controlPath, err)
	case unix.ENODEV, unix.ENXIO, unix.ENOENT:
		return -1, fmt.Errorf("cannot open %s: %w (this kernel has no device-mapper; try modprobe dm-mod)", controlPath, err)
	}
	return -1, fmt.Errorf("cannot open %s: %w", controlPath, err)
}

// Close closes the node. No method of c and no Do of a Call prepared with c may be under way or follow.
func (c *Control) Close() error {
	var err error
	c.closed.Do(func() { err = unix.Close(c.fd) })
	if err != nil {
		return fmt.Errorf("cannot close %s: %w", controlPath, err)
	}
	return nil
}

// Version of the kernel's device-mapper interface, such as 4.47.0 in Linux 6.1.
func (c *Control) Version() (major, minor, patch uint32, err error) {
	q := request{op: "ask device-mapper for its version", cmd: unix.DM_VERSION}
	buf, err := c.do(&q, 0)
	if err != nil {
		return 0, 0, 0, err
	}
	v := head(buf).Version
	return v[0], v[1], v[2], nil
}

// do runs a request, with room bytes for the answer to begin with, and returns the buffer with header and answer.
func (c *Control) do(q *request, room int) ([]byte, error) { return c.doIn(nil, q, room) }

// doIn is do in a buffer of the caller's, if it is large enough.
func (c *Control) doIn(own []byte, q *request, room int) ([]byte, error) {
	if room > roomMax || len(q.payload) > roomMax {
		return nil, fmt.Errorf("cannot %s %s: more than %d MiB of data", q.op, q.ref, roomMax>>20)
	}
	for {
		buf := own
		if size := q.size(room); size <= len(own) {
			buf = own[:size]
		} else {
			buf = make([]byte, size)
		}
		q.fill(buf)
		if errno := ioctl(c.fd, q.cmd, buf); errno != 0 {
			return nil, q.fail(errno)
		}
		if head(buf).Flags&unix.DM_BUFFER_FULL_FLAG == 0 {
			return buf, nil
		}
		if room *= 4; room > roomMax {
			return nil, q.fail(unix.EMSGSIZE)
		}
		room = max(room, roomDefault)
	}
}

// doRef is do for a request about an existing device.
func (c *Control) doRef(q *request, room int) ([]byte, error) {
	if err := q.ref.check(); err != nil {
		return nil, fmt.Errorf("cannot %s a device: %w", q.op, err)
	}
	return c.do(q, room)
}

// ioctl retries EINTR: Go's preemption signals can interrupt a suspend, and __dm_suspend has then undone everything.
// It goes through unix.Syscall so that the scheduler knows that it may block.
func ioctl(fd int, cmd uintptr, buf []byte) unix.Errno {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), cmd, uintptr(unsafe.Pointer(&buf[0])))
		if errno != unix.EINTR {
			return errno
		}
	}
}
