package provider

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/config/ownership"
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/fsfreeze"
)

// device is a storage volume that is a block device of which nobody else has anything. Areas are carved from it by the
// tables of their devices alone: nothing is written outside them, and when the kernel forgets the tables, the device is
// empty. So the records are kept where a reboot forgets them too.
//
// The first and the last MiB belong to no area. They are zero when the device is given to us and stay so, and there stands
// what every filesystem, partition table, LVM and md are known by: a device that has come to be somebody else's is noticed.
type device struct {
	control *dm.Control
	path    string
	run     string // directory of the records
}

func (d device) String() string  { return d.path }
func (d device) records() string { return d.run }

// opened is the device while we look at it.
type opened struct {
	*os.File
	dev  dm.Dev
	size uint64
}

func (d device) open(flags int) (*opened, error) {
	f, err := os.OpenFile(d.path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return nil, errors.Unwrap(err) // the path is told by whom we tell
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFBLK {
		err = fmt.Errorf("%w (a directory must not be below /dev)", unix.ENOTBLK)
	}
	var size int64
	if err == nil {
		size, err = f.Seek(0, io.SeekEnd)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &opened{File: f, dev: dm.Dev(st.Rdev), size: uint64(size)}, nil
}

// all are the extents that areas can have.
func (o *opened) all() run { return run{1, max(o.size/extent, 2) - 2} }

// with does something with the open device.
func (d device) with(do func(o *opened) error) error {
	if err := d.look(do); err != nil {
		return fmt.Errorf("cannot use the storage volume %s: %w", d.path, err)
	}
	return nil
}

func (d device) look(do func(o *opened) error) error {
	o, err := d.open(0)
	if err != nil {
		return err
	}
	return errors.Join(do(o), o.Close())
}

func (d device) usable() error {
	err := d.with(func(o *opened) error {
		if err := errors.Join(o.writable(), d.unclaimed(o.dev)); err != nil {
			return err
		}
		if o.all().n == 0 {
			return fmt.Errorf("it has only %s", mebibytes(o.size))
		}
		return o.blank()
	})
	if err != nil {
		return err
	}
	if err = os.MkdirAll(d.run, 0o700); err == nil {
		err = ownership.Directory(d.run)
	}
	if err != nil {
		return fmt.Errorf("cannot keep records in %s: %w", d.run, err)
	}
	return nil
}

func (o *opened) writable() error {
	ro, err := unix.IoctlGetInt(int(o.Fd()), unix.BLKROGET)
	if err == nil && ro != 0 {
		err = fmt.Errorf("%w: it is read-only (blockdev --setrw)", ErrPool)
	}
	return err
}

// unclaimed is nil if nothing but our areas has the device open exclusively. Mounts, swap, arrays and device-mapper have;
// programs that read and write without that, such as virtual machines, are not seen.
func (d device) unclaimed(dev dm.Dev) error {
	holders, err := filepath.Glob(filepath.Join("/sys/dev/block", dev.String(), "holders/*"))
	if err != nil {
		return err
	}
	for _, h := range holders {
		uuid, err := os.ReadFile(filepath.Join(h, "dm/uuid"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if !strings.HasPrefix(string(uuid), cowUUID) {
			return fmt.Errorf("%w: %s lies on it", unix.EBUSY, filepath.Base(h))
		}
	}
	if len(holders) > 0 {
		return nil // device-mapper claims a device for all of its own
	}
	o, err := d.open(unix.O_EXCL)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w: it, or a partition on it, is mounted or in use (lsblk tells by whom)", err)
	}
	if err != nil {
		return err
	}
	return o.Close()
}

// blank is nil if the device's ends are zero.
func (o *opened) blank() error {
	end := make([]byte, extent)
	for _, at := range []uint64{0, o.size - extent} {
		if _, err := o.ReadAt(end, int64(at)); err != nil {
			return err
		}
		if i := bytes.IndexFunc(end, func(r rune) bool { return r != 0 }); i >= 0 {
			return fmt.Errorf("it is not empty: byte %d is not zero (wipefs tells what it holds; if that is of no use any more, zero the first and the last MiB)", at+uint64(i))
		}
	}
	return nil
}

func (d device) space() (size, free uint64, err error) {
	err = d.with(func(o *opened) error {
		taken, err := d.taken(o.dev)
		size, free = o.all().n*extent, total(gaps(o.all(), taken))*extent
		return errors.Join(err, o.writable())
	})
	return size, free, err
}

// taken are the runs that the tables of areas map, the live ones and those that the next resume makes live.
func (d device) taken(dev dm.Dev) ([]run, error) {
	all, err := d.control.List()
	if err != nil {
		return nil, err
	}
	var out []run
	for _, e := range all {
		if !strings.HasPrefix(e.UUID, cowUUID) {
			continue
		}
		live, _, err := d.control.Table(dm.ByDev(e.Dev))
		var inactive []dm.Target
		if err == nil {
			inactive, _, err = d.control.TableInactive(dm.ByDev(e.Dev))
		}
		if errors.Is(err, unix.ENXIO) {
			continue // it has just gone
		}
		if err != nil {
			return nil, err
		}
		for _, table := range [][]dm.Target{live, inactive} {
			runs, _, err := carved(dev, table)
			if err != nil {
				return nil, fmt.Errorf("cannot tell what %s maps: %w", e.Name, err)
			}
			out = append(out, runs...)
		}
	}
	return out, nil
}

func (device) cost(area uint64) uint64 { return extents(area) * extent }

// suits is nil unless the volume lies on the storage, in whatever way, or has smaller sectors.
func (d device) suits(v Volume) error {
	return d.with(func(o *opened) error {
		sector, err := unix.IoctlGetInt(int(o.Fd()), unix.BLKSSZGET)
		if err != nil {
			return err
		}
		if own := blockSize(v.Dev); own != 0 && uint32(sector) > own {
			return fmt.Errorf("it has sectors of %d bytes, %s has %d: what is on it could not be mounted from a snapshot (use a directory on a filesystem)",
				sector, v.Name, own)
		}
		mounts, err := fsfreeze.Mounts()
		if err != nil {
			return err
		}
		var below []uint64
		err = belowDevice(uint64(v.Dev), mounts, func(dev uint64) bool {
			known := slices.Contains(below, dev)
			below = append(below, dev)
			return !known
		})
		if err == nil && slices.Contains(below, uint64(o.dev)) {
			err = fmt.Errorf("%s lies on it", v.Name)
		}
		return err
	})
}

func (d device) below(visit func(dev uint64) bool) error {
	mounts, err := fsfreeze.Mounts()
	if err != nil {
		return err
	}
	return d.with(func(o *opened) error { return belowDevice(uint64(o.dev), mounts, visit) })
}

// allot finds the extents; they are taken when the table is loaded.
func (d device) allot(r record) ([]dm.Target, error) { return d.extend(r.Name, nil, r.COW) }

func (d device) extend(_ string, live []dm.Target, size uint64) (table []dm.Target, err error) {
	err = d.with(func(o *opened) error {
		runs, whole, err := carved(o.dev, live)
		if err != nil {
			return err
		}
		if !whole {
			return errors.New("the copy-on-write area lies on another device: the storage volume was changed")
		}
		taken, err := d.taken(o.dev)
		if err != nil {
			return err
		}
		if need, has := extents(size), total(runs); need > has {
			more := fit(gaps(o.all(), taken), need-has)
			if more == nil {
				return fmt.Errorf("cannot allocate %s: %w", mebibytes((need-has)*extent), ErrNoRoom)
			}
			runs = append(runs, more...)
		}
		table = carve(o.dev, runs, size)
		return nil
	})
	return table, err
}

// free has nothing to do: without a table that maps them, the extents are free.
func (device) free(string) error { return nil }
