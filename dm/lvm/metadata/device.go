package metadata

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
)

// Device is an open physical volume.
//
// It is read through the page cache, page by page, rather than by O_DIRECT: who waits for a page of a disk that has stopped
// answering can be killed (filemap_read, mm/filemap.c), who waits for direct I/O cannot, and the daemon's service could not be stopped.
type Device struct{ file *os.File }

// Open opens a block device by its number, and by the node that the kernel itself keeps for it, for reading: udev does not notice.
func Open(dev dm.Dev) (*Device, error) {
	link, err := os.Readlink("/sys/dev/block/" + dev.String())
	if err != nil {
		return nil, fmt.Errorf("cannot read metadata of LVM's: %w", err)
	}
	path := "/dev/" + strings.ReplaceAll(filepath.Base(link), "!", "/")
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot read metadata of LVM's: %w", err)
	}
	d := &Device{f}
	var s unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &s)
	switch {
	case err != nil:
		err = fmt.Errorf("cannot look at %s: %w", path, err)
	case s.Mode&unix.S_IFMT != unix.S_IFBLK || dm.Dev(s.Rdev) != dev:
		err = fmt.Errorf("cannot read metadata of LVM's: %s is not block device %v", path, dev)
	default: // nothing is read ahead
		err = os.NewSyscallError("fadvise", unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM))
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// ReadAt reads from the disk, not what is cached of it: another host, or another name of the same disk, may have written there.
func (d *Device) ReadAt(b []byte, at int64) (int, error) {
	const page = 4096 // only whole ones are dropped
	from := at / page * page
	if err := unix.Fadvise(int(d.file.Fd()), from, at+int64(len(b))+page-from, unix.FADV_DONTNEED); err != nil {
		return 0, os.NewSyscallError("fadvise", err)
	}
	return d.file.ReadAt(b, at)
}

// Close closes it.
func (d *Device) Close() error { return d.file.Close() }
