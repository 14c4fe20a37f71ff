package dm

import (
	"fmt"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Writes is how much a block device was written to since it appeared, in sectors of 512 bytes. Two readings that are equal
// prove that nothing was written between them. The kernel's count of writes is not among it: an fsync(2) that finds its file
// clean still sends a flush, from a frozen filesystem too, and device-mapper counts that as a write of no sectors
// (drivers/md/dm.c, dm_io_acct).
type Writes struct {
	Written   uint64
	Discarded uint64
}

// WriteCounter reads the statistics of one block device (Documentation/block/stat.rst), for the freeze window: Read
// neither allocates nor looks up a path. It serves one goroutine at a time.
type WriteCounter struct {
	dev Dev
	fd  int
	buf [512]byte
}

// OpenWriteCounter opens /sys/dev/block/MAJOR:MINOR/stat.
func OpenWriteCounter(major, minor uint32) (*WriteCounter, error) {
	w := &WriteCounter{dev: MkDev(major, minor)}
	path := "/sys/dev/block/" + w.dev.String() + "/stat"
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", path, err)
	}
	w.fd = fd
	return w, nil
}

// Close closes the counter. Read must not follow.
func (w *WriteCounter) Close() error {
	if err := unix.Close(w.fd); err != nil {
		return fmt.Errorf("cannot close the statistics of %s: %w", w.dev, err)
	}
	return nil
}

// Read reads the counters. ENODEV means that the device is gone.
func (w *WriteCounter) Read() (Writes, error) {
	for {
		n, err := unix.Pread(w.fd, w.buf[:], 0)
		switch err {
		case nil:
			return parseStat(unsafe.String(&w.buf[0], n))
		case unix.EINTR:
		default:
			return Writes{}, fmt.Errorf("cannot read the statistics of %s: %w", w.dev, err)
		}
	}
}

// Fields of a block device's stat file, from 0.
const (
	statWritten   = 6
	statDiscarded = 13 // since Linux 4.18
	statNeeded    = 11
)

func parseStat(text string) (Writes, error) {
	var w Writes
	i := 0
	for rest := strings.TrimRight(text, "\n"); ; i++ {
		var field string
		if field, rest = word(rest); field == "" {
			break
		}
		n, err := parseUint(field)
		if err != nil {
			return Writes{}, fmt.Errorf("cannot parse block statistics %s: %w", quote(strings.Clone(text)), err)
		}
		switch i {
		case statWritten:
			w.Written = n
		case statDiscarded:
			w.Discarded = n
		}
	}
	if i < statNeeded {
		return Writes{}, fmt.Errorf("cannot parse block statistics %s: only %d fields", quote(strings.Clone(text)), i)
	}
	return w, nil
}
