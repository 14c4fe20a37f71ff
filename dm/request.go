package dm

import (
	"bytes"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	headSize = unix.SizeofDmIoctl
	// Large enough for any answer about one device on ordinary hosts; do grows it when the kernel asks for more.
	roomDefault = 16 << 10
	// No list or table of a sane host comes near this; it bounds what a broken kernel can make us allocate.
	roomMax = 16 << 20
)

// request is one ioctl before it is laid out in a buffer. A Call keeps it, because the kernel overwrites header and
// payload with its answer.
type request struct {
	op      string
	cmd     uintptr
	ref     Ref
	uuid    string // beside ref.Name, only to create a device
	flags   uint32
	eventNr uint32
	targets uint32
	payload []byte // what follows the header
	label   string // what an error calls the device; ref if empty
}

// size of the buffer that the request and an answer of at most room bytes need.
func (q *request) size(room int) int { return headSize + align8(max(len(q.payload)+1, room)) }

// fill lays the request out in buf. It does not allocate.
func (q *request) fill(buf []byte) {
	h := head(buf)
	*h = unix.DmIoctl{
		Version:      [3]uint32{unix.DM_VERSION_MAJOR, 0, 0},
		Data_size:    uint32(len(buf)),
		Data_start:   headSize,
		Target_count: q.targets,
		Flags:        q.flags,
		Event_nr:     q.eventNr,
		Dev:          uint64(q.ref.Dev),
	}
	copy(h.Name[:unix.DM_NAME_LEN-1], q.ref.Name)
	copy(h.Uuid[:unix.DM_UUID_LEN-1], q.ref.UUID)
	if q.uuid != "" {
		copy(h.Uuid[:unix.DM_UUID_LEN-1], q.uuid)
	}
	clear(buf[headSize+copy(buf[headSize:], q.payload):])
}

// fail makes the error of a request that the kernel refused.
func (q *request) fail(errno unix.Errno) error {
	label := q.label
	if label == "" {
		label = q.ref.String()
	}
	return &Error{Op: q.op, Device: label, Errno: errno}
}

// head of a buffer. Buffers come from make and are longer than a word, so they are aligned.
func head(buf []byte) *unix.DmIoctl { return (*unix.DmIoctl)(unsafe.Pointer(&buf[0])) }

// answer is the part behind the header that the kernel filled; empty if it makes no sense.
func answer(buf []byte) []byte {
	h := head(buf)
	from, to := uint64(h.Data_start), uint64(h.Data_size)
	if from < headSize-7 || from > to || to > uint64(len(buf)) {
		return nil
	}
	return buf[from:to]
}

func align8(n int) int { return (n + 7) &^ 7 }

// cString is b up to its first NUL byte.
func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
