package provider

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/fsfreeze"
)

// The storage volume is a directory that root alone can write to, with a file for each snapshot and its record.

// usable is nil if the storage can hold snapshots, apart from their size.
func (p *DM) usable() error {
	if p.storage == "" {
		return errors.New("no storage volume is configured (storage: DIRECTORY in /etc/fermata/providers.d/dm.yaml)")
	}
	info, err := os.Stat(p.storage)
	if err != nil {
		return fmt.Errorf("cannot use the storage volume: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return fmt.Errorf("cannot use the storage volume %s: %w", p.storage, unix.ENOTDIR)
	case !ok || st.Uid != 0 || info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("cannot use the storage volume %s: others than root can write to it (chown root, chmod go-w)", p.storage)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(p.storage, &fs); err != nil {
		return fmt.Errorf("cannot use the storage volume %s: %w", p.storage, err)
	}
	if fs.Flags&unix.ST_RDONLY != 0 {
		return fmt.Errorf("%w: the storage volume %s is mounted read-only (dmesg may tell why)", ErrPool, p.storage)
	}
	return nil
}

// room is nil if so many bytes more can be allocated without touching the reserve.
func (p *DM) room(need uint64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(p.storage, &fs); err != nil {
		return fmt.Errorf("cannot ask for the free space of the storage volume %s: %w", p.storage, err)
	}
	unit := uint64(fs.Bsize)
	free, keep := fs.Bavail*unit, p.reserve.Of(fs.Blocks*unit)
	if free < keep || free-keep < need {
		return fmt.Errorf("%w: the storage volume %s has %s free, the snapshots need %s, and %v is to be kept in reserve (make room, or ask for less: cow)",
			ErrNoRoom, p.storage, mebibytes(free), mebibytes(need), p.reserve)
	}
	return nil
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
	}
	return nil
}

// Storage lists the devices that the storage volume lies on, the whole stack down, through the files of loop devices.
func (p *DM) Storage() ([]dm.Dev, error) {
	mounts, err := fsfreeze.Mounts()
	if err != nil {
		return nil, err
	}
	var out []dm.Dev
	visit := func(dev uint64) bool {
		known := slices.Contains(out, dm.Dev(dev))
		out = append(out, dm.Dev(dev))
		return !known
	}
	real, err := filepath.EvalSymlinks(p.storage)
	if err != nil {
		return nil, fmt.Errorf("cannot find the storage volume: %w", err)
	}
	if err := below(real, mounts, visit); err != nil {
		return nil, fmt.Errorf("cannot tell what the storage volume %s lies on: %w", p.storage, err)
	}
	return out, nil
}

// below visits what the filesystem of a path lies on.
func below(path string, mounts []fsfreeze.Mount, visit func(dev uint64) bool) error {
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
		stack, err := fsfreeze.Stack(os.DirFS("/sys"), dev)
		if err != nil {
			return err
		}
		var errs []error
		stack.Walk(func(d fsfreeze.Device) {
			if visit(d.Dev) && d.Backing != "" {
				errs = append(errs, below(d.Backing, mounts, visit))
			}
		})
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}

// deviceAt is the number of the block device that a path names.
func deviceAt(path string) (dev uint64, ok bool, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, false, err
	}
	return st.Rdev, st.Mode&unix.S_IFMT == unix.S_IFBLK, nil
}

// storageLock excludes every other change of what lies in the storage and of the devices that belong to it.
type storageLock struct{ file *os.File }

const lockPause = 5 * time.Millisecond

func (p *DM) lock(ctx context.Context) (*storageLock, error) {
	f, err := os.OpenFile(filepath.Join(p.storage, ".fermata.lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
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
