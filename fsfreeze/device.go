package fsfreeze

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// RawDevice is a block device opened to write out what the kernel has cached of it: buffered writes of an application
// that uses it without a filesystem.
type RawDevice struct{ file *os.File }

// OpenDevice opens a block device by the node that the kernel itself keeps for it, /dev/NAME: links of udev may be late.
func OpenDevice(sys fs.FS, dev uint64) (*RawDevice, error) {
	s, err := Stack(sys, dev)
	if err != nil {
		return nil, err
	}
	path := "/dev/" + strings.ReplaceAll(s.Name, "!", "/")
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFBLK || st.Rdev != dev) {
		err = fmt.Errorf("%s is not block device %d:%d", path, unix.Major(dev), unix.Minor(dev))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &RawDevice{f}, nil
}

// Sync writes out what is cached, and has the device write out its own cache. It reports write errors since the opening.
func (d *RawDevice) Sync() error {
	if err := d.file.Sync(); err != nil {
		return fmt.Errorf("cannot write out %s: %w", d.file.Name(), err)
	}
	return nil
}

// Close closes the descriptor.
func (d *RawDevice) Close() error { return d.file.Close() }
