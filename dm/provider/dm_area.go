package provider

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/fermata-project/fermata/dm"
)

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

func areaRef(name string) dm.Ref { return dm.ByName(ownName + name + cowEnd) }

// makeArea makes an area and its device; dropArea undoes it.
func (p *DM) makeArea(r record) (dm.Dev, error) {
	table, err := p.storage.allot(r)
	if err != nil {
		return 0, err
	}
	info, err := p.control.Create(ownName+r.Name+cowEnd, cowUUID+r.Device+"-"+r.Set.ID, dm.CreateOpts{
		Table: table, Resume: dm.ResumeOpts{Udev: private | dm.UdevDisableDM, NoNode: true},
	})
	return info.Dev, err
}

// growArea grows the area under its device. dm-snapshot looks at the area's size whenever it needs a chunk: the snapshot's
// own table stays as it is.
func (p *DM) growArea(name string, size uint64) error {
	live, _, err := p.control.Table(areaRef(name))
	if err != nil {
		return err
	}
	table, err := p.storage.extend(name, live, size)
	if err != nil {
		return fmt.Errorf("cannot grow the copy-on-write area of %s: %w", name, err)
	}
	if err := p.control.Load(areaRef(name), table, false); err != nil {
		return err
	}
	return p.control.ResumeWith(areaRef(name), dm.ResumeOpts{Flags: dm.SkipLockFS, Udev: private | dm.UdevDisableDM, NoNode: true})
}

// dropArea removes the area and its device, as far as they exist.
func (p *DM) dropArea(name string) error {
	if err := p.removeDevice(ownName + name + cowEnd); err != nil {
		return err
	}
	return p.storage.free(name)
}

// blockSize is that of a device's sectors in bytes, 0 if it is not known: a snapshot with larger ones than its origin could
// not be mounted.
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
