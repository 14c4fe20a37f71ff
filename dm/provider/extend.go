package provider

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/lvm"
)

// Extender is a provider that can extend its pools.
type Extender interface {
	// ExtendPool extends a pool, vg/lv, and returns what came of it also if only a part of it came.
	ExtendPool(ctx context.Context, pool string, x Extension) (Extended, error)
}

// Autoextender is a provider whose space somebody else may extend: dmeventd.
type Autoextender interface {
	// Autoextended reports whether that is so for a pool, or for a snapshot with a copy-on-write area.
	Autoextended(ctx context.Context, name string) (bool, error)
}

// Placer is a provider that can tell from which pool a volume has its space.
type Placer interface {
	// PoolOf asks the kernel for the pool's device.
	PoolOf(v Volume) (dm.Dev, error)
}

// Extension says how a pool is to be extended.
type Extension struct {
	Metadata bool     // it, instead of the data
	By       Share    // of the present size
	Limit    uint64   // bytes that it has at most; 0: no limit
	Reserve  Share    // of the volume group that stays free; nil: nothing
	Spares   []string // devices that the group may be given when it has no room
	Whole    bool     // or not at all: the limit and the room would not do for a part
}

// Extended is what came of it.
type Extended struct {
	Was, Is uint64   // bytes
	Spares  []string // that the group was given
}

// ErrLimit: the pool is as large as it may be.
var ErrLimit = errors.New("it is as large as it may be")

// ExtendPool extends a thin pool from its volume group, and the group by a spare device where it has no room.
func (p *Thin) ExtendPool(ctx context.Context, pool string, x Extension) (out Extended, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot extend the %s of pool %s: %w", x.part(), pool, err)
		}
	}()
	for {
		inventory, err := p.lvm.Report(ctx, groupOf(pool))
		if err != nil {
			return out, err
		}
		size, err := growth(inventory, pool, x)
		if errors.Is(err, ErrNoRoom) && len(x.Spares) > 0 {
			spare := x.Spares[0]
			x.Spares = x.Spares[1:]
			if spareErr := p.addSpare(ctx, groupOf(pool), spare); spareErr != nil {
				if len(x.Spares) == 0 {
					return out, errors.Join(err, spareErr)
				}
				continue
			}
			out.Spares = append(out.Spares, spare)
			continue
		}
		if err != nil {
			return out, err
		}
		out.Was = x.size(lvOf(inventory, pool))
		if x.Metadata {
			err = p.lvm.ExtendMetadata(ctx, pool, size)
		} else {
			err = p.lvm.Extend(ctx, pool, size)
		}
		if err == nil {
			out.Is = size
		}
		return out, err
	}
}

func (x Extension) part() string {
	if x.Metadata {
		return "metadata"
	}
	return "data"
}

func (x Extension) size(lv lvm.LV) uint64 {
	if x.Metadata {
		return lv.MetadataSize
	}
	return lv.Size
}

func groupOf(name string) string {
	vg, _, _ := strings.Cut(name, "/")
	return vg
}

func lvOf(inventory *lvm.Inventory, name string) lvm.LV {
	vg, lv, _ := strings.Cut(name, "/")
	x, _ := inventory.LV(vg, lv)
	return x
}

// growth is how large a pool is to be made: whole extents, as far as limit and volume group allow. ErrLimit or ErrNoRoom if that
// is no more than it has.
func growth(inventory *lvm.Inventory, pool string, x Extension) (uint64, error) {
	vg, ok := inventory.VG(groupOf(pool))
	lv := lvOf(inventory, pool)
	switch {
	case !ok || lv.SegType != "thin-pool":
		return 0, errors.New("there is no such thin pool in LVM")
	case vg.Shared:
		return 0, fmt.Errorf("volume group %s is shared with other hosts, which Fermata cannot keep from changing it", vg.Name)
	case vg.ExtentSize == 0:
		return 0, fmt.Errorf("internal error: LVM does not tell the extents of %s", vg.Name)
	}
	now := x.size(lv)
	want := (x.By.Of(now) + vg.ExtentSize - 1) / vg.ExtentSize * vg.ExtentSize
	if x.Limit > 0 {
		left := x.Limit - min(x.Limit, now)
		if left < vg.ExtentSize {
			return 0, fmt.Errorf("%w: %s, and the limit is %s", ErrLimit, mebibytes(now), mebibytes(x.Limit))
		}
		if x.Whole && want > left {
			return 0, fmt.Errorf("%w: it has %s, and can have %s", ErrLimit, mebibytes(now), mebibytes(x.Limit))
		}
		want = min(want, left/vg.ExtentSize*vg.ExtentSize)
	}
	var keep uint64
	if x.Reserve != nil {
		keep = x.Reserve.Of(vg.Size)
	}
	room := vg.Free - min(vg.Free, keep)
	if room < vg.ExtentSize || x.Whole && room < want {
		return 0, fmt.Errorf("%w: volume group %s has %s free, and %s are to be kept (vgextend %s DEVICE)", ErrNoRoom, vg.Name, mebibytes(vg.Free), mebibytes(keep), vg.Name)
	}
	return now + min(want, room/vg.ExtentSize*vg.ExtentSize), nil
}

// addSpare gives a volume group a device of which nobody has anything. One that is in a group already is nobody's spare.
func (p *Thin) addSpare(ctx context.Context, vg, path string) error {
	d := device{control: p.control, path: path}
	err := d.look(func(o *opened) error {
		holders, err := os.ReadDir("/sys/dev/block/" + o.dev.String() + "/holders")
		if err != nil {
			return err
		}
		if len(holders) > 0 {
			return fmt.Errorf("%s lies on it", holders[0].Name())
		}
		return errors.Join(o.writable(), d.unclaimed(o.dev), o.blank())
	})
	if err != nil {
		return fmt.Errorf("cannot give it %s: %w", path, err)
	}
	return p.lvm.ExtendGroup(ctx, vg, path)
}

// Autoextended asks LVM whether dmeventd extends a pool, or a snapshot's copy-on-write area.
func (p *lvmVolumes) Autoextended(ctx context.Context, name string) (bool, error) {
	return p.lvm.Autoextended(ctx, name)
}

// PoolOf reads a thin volume's table.
func (p *Thin) PoolOf(v Volume) (dm.Dev, error) {
	t, _, err := p.table(v.Dev)
	return t.Pool, err
}
