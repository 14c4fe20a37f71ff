package provider

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/fsfreeze"
)

// storage is where the copy-on-write areas of a DM's snapshots are. What changes something is called under the lock.
type storage interface {
	// String is the path that was configured.
	String() string
	// records is the directory for what the kernel does not know of the snapshots, and for the lock.
	records() string
	// usable is nil if areas can be made and written to, apart from their size: ErrPool if it has become read-only.
	usable() error
	// suits is nil if areas can serve a snapshot of the volume.
	suits(v Volume) error
	// space is in bytes; cost is how much of it an area of so many bytes takes.
	space() (size, free uint64, err error)
	cost(area uint64) uint64
	// below visits the devices that the storage lies on, the whole stack down, as far as visit says true.
	below(visit func(dev uint64) bool) error

	// allot makes room for an area, whose device shall have the table; free undoes that when the device is gone.
	allot(r record) (table []dm.Target, err error)
	free(name string) error
	// extend makes an area of which the device's table is known larger; more than once does no harm.
	extend(name string, live []dm.Target, size uint64) (table []dm.Target, err error)
}

// newStorage tells the two kinds apart by the path alone, since what it names may not be there yet.
func newStorage(c *dm.Control, path, run string) storage {
	switch {
	case path == "":
		return nil
	case strings.HasPrefix(path, "/dev/"):
		return device{control: c, path: path, run: run}
	}
	return directory{path}
}

var errNoStorage = errors.New("no storage volume is configured (storage: DIRECTORY or DEVICE in /etc/fermata/providers.d/dm.yaml)")

// usable is nil if the storage can hold snapshots, apart from their size.
func (p *DM) usable() error {
	if p.storage == nil {
		return errNoStorage
	}
	return p.storage.usable()
}

// room is nil if so many bytes more can be allocated without touching the reserve.
func (p *DM) room(need uint64) error {
	size, free, err := p.storage.space()
	if err != nil {
		return err
	}
	if keep := p.reserve.Of(size); free < keep || free-keep < need {
		return fmt.Errorf("%w: the storage volume %s has %s free, the snapshots need %s, and %v is to be kept in reserve (make room, or ask for less: cow)",
			ErrNoRoom, p.storage, mebibytes(free), mebibytes(need), p.reserve)
	}
	return nil
}

// Pools tells of the storage volume.
func (p *DM) Pools() ([]Pool, error) {
	if p.storage == nil {
		return nil, nil
	}
	pool := Pool{Name: p.storage.String(), Mode: "rw"}
	size, free, err := p.storage.space()
	switch {
	case errors.Is(err, ErrPool):
		pool.Mode = "ro"
	case err != nil:
		pool.Mode = "fail"
	}
	pool.Size, pool.Used = size, size-min(free, size)
	return []Pool{pool}, nil
}

// apart is nil if the storage lies on none of the volumes: what a frozen volume's snapshot must keep would wait for the
// thaw, and the thaw for it.
func (p *DM) apart(vols []Volume) error {
	below, err := p.Storage()
	if err != nil {
		return err
	}
	for _, v := range vols {
		if slices.Contains(below, v.Dev) {
			return fmt.Errorf("cannot snapshot %s: the storage volume %s lies on it (choose another: storage)", v.Name, p.storage)
		}
		if err := p.storage.suits(v); err != nil {
			return fmt.Errorf("cannot snapshot %s: %w", v.Name, err)
		}
	}
	return nil
}

// Storage lists the devices that the storage volume lies on, the whole stack down, through the files of loop devices.
func (p *DM) Storage() ([]dm.Dev, error) {
	if p.storage == nil {
		return nil, errNoStorage
	}
	var out []dm.Dev
	err := p.storage.below(func(dev uint64) bool {
		known := slices.Contains(out, dm.Dev(dev))
		out = append(out, dm.Dev(dev))
		return !known
	})
	if err != nil {
		return nil, fmt.Errorf("cannot tell what the storage volume %s lies on: %w", p.storage, err)
	}
	return out, nil
}

// belowPath visits what the filesystem of a path lies on.
func belowPath(path string, mounts []fsfreeze.Mount, visit func(dev uint64) bool) error {
	on := fsfreeze.Under(mounts, path).Dev
	all := fsfreeze.Filesystems(mounts)
	i := slices.IndexFunc(all, func(f fsfreeze.Filesystem) bool { return f.Dev == on })
	if i < 0 {
		return fmt.Errorf("%w: nothing is mounted above %s", unix.ENOENT, path)
	}
	devs, err := all[i].BlockDevices()
	if err != nil {
		return err
	}
	for _, dev := range devs {
		if err := belowDevice(dev, mounts, visit); err != nil {
			return err
		}
	}
	return nil
}

// belowDevice visits a device and what it lies on, through the files, or the devices, of loop devices.
func belowDevice(dev uint64, mounts []fsfreeze.Mount, visit func(dev uint64) bool) error {
	stack, err := fsfreeze.Stack(os.DirFS("/sys"), dev)
	if err != nil {
		return err
	}
	var errs []error
	stack.Walk(func(d fsfreeze.Device) {
		if !visit(d.Dev) || d.Backing == "" {
			return
		}
		var st unix.Stat_t
		if err := unix.Stat(d.Backing, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK {
			errs = append(errs, belowDevice(st.Rdev, mounts, visit))
			return
		}
		errs = append(errs, belowPath(d.Backing, mounts, visit))
	})
	return errors.Join(errs...)
}

// storageLock excludes every other change of what lies in the storage and of the devices that belong to it.
type storageLock struct{ file *os.File }

const lockPause = 5 * time.Millisecond

func (p *DM) lock(ctx context.Context) (*storageLock, error) {
	f, err := os.OpenFile(filepath.Join(p.storage.records(), ".fermata.lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the storage volume: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return &storageLock{file: f}, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("cannot lock the storage volume %s: %w", p.storage, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("cannot lock the storage volume %s: %w", p.storage, context.Cause(ctx)), f.Close())
		case <-time.After(lockPause):
		}
	}
}

// unlock releases the lock; on nil it does nothing.
func (l *storageLock) unlock() error {
	if l == nil {
		return nil
	}
	return l.file.Close()
}

// locked does something under the lock.
func (p *DM) locked(ctx context.Context, do func() error) error {
	l, err := p.lock(ctx)
	if err != nil {
		return err
	}
	return errors.Join(do(), l.unlock())
}
