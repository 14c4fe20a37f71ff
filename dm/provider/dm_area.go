package provider

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/loop"
)

// head is left empty at the beginning of a file, in bytes: the first chunk that is kept may be the origin's superblock, and
// must not make the loop device look like a copy of the origin.
const head = 1 << 20

// minArea is the smallest copy-on-write area in bytes: less would not hold what mounting and unmounting write.
const minArea = 1 << 20

// areaSize is how large the copy-on-write area for a volume is to be, in bytes: what is wanted, in whole chunks, at most a
// full copy.
func areaSize(want, size, chunk uint64) uint64 {
	return roundUp(min(max(want, minArea), max(size, minArea)), chunk)
}

// want is what the policy, or else the provider, wants for a volume.
func (p *DM) want(v Volume) uint64 {
	if v.COW > 0 {
		return v.COW
	}
	used := v.Used
	if used == 0 {
		used = v.Size
	}
	return p.cow.Of(v.Size, used)
}

func (p *DM) areaSize(v Volume) uint64 { return areaSize(p.want(v), v.Size, p.chunk) }

// makeArea makes the file, its loop device and the area on it. All space is allocated now: a storage volume that is full
// tomorrow breaks no snapshot.
func (p *DM) makeArea(r record) (dm.Dev, error) {
	path := p.areaPath(r.Name)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return 0, fmt.Errorf("cannot make the copy-on-write area: %w", err)
	}
	defer f.Close()
	if err := allocate(f, head+r.COW); err != nil {
		return 0, err
	}
	// The file's data stay in it, and nothing of them in memory.
	device, err := loop.Attach(f, loop.Options{DirectIO: true, BlockSize: blockSize(r.origin())})
	if err != nil {
		return 0, err
	}
	table, err := p.areaTable(device, r.COW)
	if err != nil {
		return 0, err
	}
	info, err := p.control.Create(ownName+r.Name+cowEnd, cowUUID+r.Device+"-"+r.Set.ID, dm.CreateOpts{
		Table: table, Resume: dm.ResumeOpts{Udev: private | dm.UdevDisableDM, NoNode: true},
	})
	return info.Dev, err
}

func allocate(f *os.File, size uint64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, int64(size))
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("cannot allocate %s: %w: its filesystem cannot reserve space (ext4, XFS and btrfs can)", f.Name(), err)
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("cannot allocate %s for %s: %w (%w)", mebibytes(size), f.Name(), ErrNoRoom, err)
	case err != nil:
		return fmt.Errorf("cannot allocate %s: %w", f.Name(), err)
	}
	if err := f.Sync(); err != nil { // what is frozen later must not find it dirty
		return fmt.Errorf("cannot write %s: %w", f.Name(), err)
	}
	return nil
}

func (p *DM) areaTable(device string, size uint64) ([]dm.Target, error) {
	dev, ok, err := deviceAt(device)
	if err != nil || !ok {
		return nil, fmt.Errorf("cannot use %s as a copy-on-write area: %w", device, errors.Join(err, unix.ENOTBLK))
	}
	return []dm.Target{{Length: size / 512, Type: "linear", Params: dm.LinearTable{Dest: dm.Dev(dev), Offset: head / 512}.String()}}, nil
}

// blockSize is that of a device's sectors: a snapshot with larger ones than its origin could not be mounted.
func blockSize(dev dm.Dev) uint32 {
	b, err := os.ReadFile(filepath.Join("/sys/dev/block", dev.String(), "queue/logical_block_size"))
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(string(b[:max(len(b)-1, 0)]), 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// growArea grows the file, its loop device and the area. dm-snapshot looks at the area's size whenever it needs a chunk:
// the snapshot's own table stays as it is.
func (p *DM) growArea(name string, size uint64) error {
	f, err := os.OpenFile(p.areaPath(name), os.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot grow the copy-on-write area: %w", err)
	}
	defer f.Close()
	if err := allocate(f, head+size); err != nil {
		return err
	}
	devices, err := loop.Of(os.DirFS("/sys"), p.areaPath(name))
	if err != nil || len(devices) != 1 {
		return errors.Join(err, fmt.Errorf("cannot grow the copy-on-write area: %s has %d loop devices", f.Name(), len(devices)))
	}
	if err := loop.Grow(devices[0]); err != nil {
		return err
	}
	table, err := p.areaTable(devices[0], size)
	if err != nil {
		return err
	}
	area := dm.ByName(ownName + name + cowEnd)
	if err := p.control.Load(area, table, false); err != nil {
		return err
	}
	return p.control.ResumeWith(area, dm.ResumeOpts{Flags: dm.SkipLockFS, Udev: private | dm.UdevDisableDM, NoNode: true})
}

// dropArea removes the area, its loop device and its file, as far as they exist.
func (p *DM) dropArea(name string) error {
	if err := p.removeDevice(ownName + name + cowEnd); err != nil {
		return err
	}
	path := p.areaPath(name)
	devices, err := loop.Of(os.DirFS("/sys"), path)
	if err != nil {
		return err
	}
	for _, d := range devices {
		if err := loop.Detach(d); err != nil {
			return err
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot remove the copy-on-write area: %w", err)
	}
	return nil
}
