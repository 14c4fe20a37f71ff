package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// maxMessage bounds a message in either direction; the longest is a plan with MaxFilesystems paths of 4096 bytes.
const maxMessage = 2 << 20

// plan is the daemon's first message.
type plan struct {
	Set         string   `json:"set"`
	Deadline    int64    `json:"deadline_ns"` // CLOCK_MONOTONIC
	Filesystems []string `json:"filesystems"`
	Devices     []uint64 `json:"devices"`
	// Ask: nothing is to be guarded; the question is whether Set is.
	Ask bool `json:"ask,omitempty"`
}

// answer is everything that the guard says.
type answer struct {
	Armed bool   `json:"armed,omitempty"`
	Asked bool   `json:"asked,omitempty"` // answers Ask: Armed tells
	Error string `json:"error,omitempty"`
	Report
}

// Report says what the guard had to release, and why. An empty Reason means that it had nothing to do.
type Report struct {
	Reason   string   `json:"reason,omitempty"`
	Released []string `json:"released,omitempty"`
	Errors   []string `json:"errors,omitempty"`
}

type done struct {
	Done bool `json:"done"`
}

// doneMessage is done{true}, as the guard compares it: it parses nothing while something may be frozen.
const doneMessage = `{"done":true}`

func send(c *net.UnixConn, v any, fds ...int) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("internal error: cannot encode a message for the guard: %w", err)
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	_, _, err = c.WriteMsgUnix(b, oob, nil)
	return err
}

// next waits for a message and gives its length: what is long enough for any would be the greatest part of the guard's memory.
func next(c *net.UnixConn) (size int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var peeked error
	err = raw.Read(func(fd uintptr) bool {
		for {
			size, _, peeked = unix.Recvfrom(int(fd), nil, unix.MSG_PEEK|unix.MSG_TRUNC)
			if peeked != unix.EINTR {
				return peeked != unix.EAGAIN
			}
		}
	})
	return size, errors.Join(err, peeked)
}

// receive reads one message and the descriptors that came with it, which are the caller's to close, also on error.
func receive(c *net.UnixConn, v any, maxFDs int) (fds []int, err error) {
	size, err := next(c)
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(max(size, 1), maxMessage))
	oob := make([]byte, unix.CmsgSpace(4*maxFDs))
	n, oobn, flags, _, err := c.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, err
	}
	if oobn > 0 {
		cmsgs, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil {
			return nil, err
		}
		for _, m := range cmsgs {
			if got, err := unix.ParseUnixRights(&m); err == nil {
				fds = append(fds, got...)
			}
		}
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	switch {
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		return fds, errors.New("message too long")
	case n == 0:
		return fds, net.ErrClosed // end of file on a SOCK_SEQPACKET socket
	}
	return fds, json.Unmarshal(b[:n], v)
}
