package provider

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/lvm"
)

// Thick makes snapshots of plain LVM volumes. It arms a volume with lvcreate, which gives LVM a complete record and the
// kernel all devices, parks the snapshot on a table that only gives errors, and empties its copy-on-write area; in the
// window the snapshot gets its own table back, and so begins anew. What LVM recorded is what there is: it can remove,
// extend and activate the snapshot at any time, except while the table waits in the inactive slot, when we hold its lock.
//
// While a snapshot is parked, writes to its origin copy nothing for it. There is no second origin, so it makes no writable
// copies.
type Thick struct {
	lvmVolumes
	cow     COW
	reserve Share
}

// NewThick makes the provider. cow is for volumes whose policy does not say how large the copy-on-write area is to be;
// reserve is what must stay free of a volume group, of whose size it can be a share.
func NewThick(c *dm.Control, l *lvm.LVM, cow COW, reserve Share) *Thick {
	return &Thick{lvmVolumes: lvmVolumes{control: c, lvm: l, host: ThisHost()}, cow: cow, reserve: reserve}
}

func (*Thick) Name() string { return "thick" }
func (*Thick) Kind() Kind   { return BuiltIn }

// Claim takes the volumes that LVM can make a thick snapshot of, except those that have a better way.
func (p *Thick) Claim(v Volume) (Claim, error) {
	name, err := publicLV(v)
	if err != nil {
		return Claim{}, err
	}
	if len(v.Device)+len("-real") > maxDMName {
		return Claim{}, errors.New("its name is so long that LVM cannot name the volume below a snapshot's origin")
	}
	targets, _, err := p.control.Table(dm.ByDev(v.Dev))
	if err != nil {
		return Claim{}, err
	}
	if len(targets) == 1 && targets[0].Type == "snapshot-origin" { // it has snapshots already: what is below counts
		t, err := dm.ParseSnapshotOriginTable(targets[0].Params)
		if err != nil {
			return Claim{}, err
		}
		if targets, _, err = p.control.Table(dm.ByDev(t.Dest)); err != nil {
			return Claim{}, err
		}
	}
	return Claim{Name: name}, plain(targets)
}

// plain is nil if a table is that of a plain volume.
func plain(table []dm.Target) error {
	if len(table) == 0 {
		return errors.New("it has no table")
	}
	for _, t := range table {
		switch t.Type {
		case "linear", "striped", "raid", "mirror":
		case "snapshot":
			return errors.New("it is itself a thick snapshot")
		case "snapshot-merge":
			return errors.New("a snapshot is being merged into it")
		case "thin":
			return errors.New("a thin volume")
		case "thin-pool":
			return errors.New("a thin pool")
		case "cache", "writecache":
			return errors.New("a cached volume")
		case "error":
			return errors.New("a part of it is missing")
		default:
			return fmt.Errorf("not a plain volume: device-mapper maps it by %s", t.Type)
		}
	}
	return nil
}

// Admit checks that the volume groups have room for all copy-on-write areas together.
func (p *Thick) Admit(ctx context.Context, vols []Volume) error {
	if len(vols) == 0 {
		return nil
	}
	inventory, err := p.lvm.Report(ctx, groupsOf(vols)...)
	if err != nil {
		return err
	}
	return errors.Join(notShared(inventory, vols), p.room(inventory, vols))
}

// room is nil if each volume group has the room that is needed of it, and its reserve.
func (p *Thick) room(inventory *lvm.Inventory, vols []Volume) error {
	need := map[string]uint64{}
	for _, name := range groupsOf(vols) {
		vg, ok := inventory.VG(name)
		if !ok {
			return fmt.Errorf("there is no volume group %s", name)
		}
		for _, v := range vols {
			if slices.Equal(groupsOf([]Volume{v}), []string{name}) {
				need[name] += roundUp(cowSize(v, p.cow), vg.ExtentSize)
			}
		}
	}
	var errs []error
	for _, name := range groupsOf(vols) {
		vg, _ := inventory.VG(name)
		errs = append(errs, p.fits(vg, need[name]))
	}
	return errors.Join(errs...)
}

// fits is nil if a volume group has so many bytes free beside its reserve.
func (p *Thick) fits(vg lvm.VG, need uint64) error {
	keep := p.reserve.Of(vg.Size)
	if need <= vg.Free && keep <= vg.Free-need {
		return nil
	}
	reserved := ""
	if keep > 0 {
		reserved = fmt.Sprintf(", and %v are to be kept in reserve", p.reserve)
	}
	return fmt.Errorf("%w: volume group %s has %s free, copy-on-write areas need %s%s (add a disk: vgextend %s DEVICE)",
		ErrNoRoom, vg.Name, mebibytes(vg.Free), mebibytes(need), reserved, vg.Name)
}

// lost is why an invalid snapshot is.
const lost = "its copy-on-write area has overflowed or failed, and its content is lost (delete it, and give the next one more room: cow)"

// Snapshots lists what LVM's tags call ours. One that lvcreate was interrupted in making is a plain volume with them.
func (p *Thick) Snapshots(ctx context.Context) ([]Snapshot, error) {
	inventory, err := p.lvm.Report(ctx)
	if err != nil {
		return nil, err
	}
	var out []Snapshot
	for _, lv := range inventory.LVs {
		s, ok := parseTags(lv.Tags)
		if !ok || lv.Pool != "" || lv.Origin == "" && !s.Armed {
			continue
		}
		s.Provider, s.Name, s.Size = p.Name(), lv.FullName(), lv.OriginSize
		if lv.Attr.Invalid() {
			s.Invalid = lost
		}
		out = append(out, s)
	}
	return out, nil
}

// Delete removes snapshots, in whatever state a set has left them.
func (p *Thick) Delete(ctx context.Context, snaps []Snapshot) error {
	return p.remove(ctx, namesOf(snaps)...)
}

func (p *Thick) remove(ctx context.Context, lvs ...string) error {
	var errs []error
	for _, lv := range lvs {
		errs = append(errs, p.unload(dm.ByName(deviceName(lv))))
	}
	return errors.Join(append(errs, p.lvm.Remove(ctx, lvs...))...)
}

// unload drops a snapshot's inactive table. LVM would resume the snapshot while it removes it, and so make that table live,
// which holds the volume below the origin; then it fails.
func (p *Thick) unload(snapshot dm.Ref) error {
	if err := p.control.Clear(snapshot); err != nil && !errors.Is(err, unix.ENXIO) {
		return err
	}
	return nil
}

// Expose tells the snapshot's device, which is active whenever its origin is.
func (p *Thick) Expose(ctx context.Context, s Snapshot) (string, error) {
	name := deviceName(s.Name)
	info, err := p.control.Info(dm.ByName(name))
	if errors.Is(err, unix.ENXIO) {
		if err = p.lvm.Activate(ctx, s.Name, true); err == nil {
			info, err = p.control.Info(dm.ByName(name))
		}
	}
	if err != nil {
		return "", err
	}
	if u, err := p.Usage(s); err != nil {
		return "", err
	} else if u.Invalid {
		return "", fmt.Errorf("cannot read %s: %s", s.Name, lost)
	}
	return dm.NodePath(name), dm.EnsureNode(name, info.Dev)
}

// Hide does nothing: a snapshot has to be active to be kept.
func (*Thick) Hide(context.Context, []Snapshot) error { return nil }

// Usage asks the kernel for the state of the snapshot's copy-on-write area.
func (p *Thick) Usage(s Snapshot) (Usage, error) {
	targets, _, err := p.control.Status(dm.ByName(deviceName(s.Name)), dm.StatusNoFlush)
	if err != nil {
		return Usage{}, err
	}
	if len(targets) != 1 || targets[0].Type != "snapshot" {
		return Usage{}, fmt.Errorf("%s is not a captured snapshot", s.Name)
	}
	t, err := dm.ParseSnapshot(targets[0].Params)
	if err != nil {
		return Usage{}, err
	}
	return Usage{Size: t.Total * 512, Used: t.Used * 512, Metadata: t.Metadata * 512, Invalid: t.Invalid || t.Overflow}, nil
}

// Resize extends the snapshot's copy-on-write area, to no more than what it can ever need.
func (p *Thick) Resize(ctx context.Context, s Snapshot, size uint64) error {
	vols := []Volume{{Name: s.Name}}
	inventory, err := p.lvm.Report(ctx, groupsOf(vols)...)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(inventory.LVs, func(lv lvm.LV) bool { return lv.FullName() == s.Name })
	if i < 0 || inventory.LVs[i].Origin == "" {
		return fmt.Errorf("cannot extend %s: there is no such snapshot", s.Name)
	}
	lv := inventory.LVs[i]
	vg, _ := inventory.VG(lv.VG)
	size = roundUp(min(size, cowMax(lv.OriginSize)), vg.ExtentSize)
	switch {
	case lv.Attr.Invalid():
		return fmt.Errorf("cannot extend %s: %s", s.Name, lost)
	case size <= lv.Size:
		return nil
	}
	if err := p.fits(vg, size-lv.Size); err != nil {
		return fmt.Errorf("cannot extend %s: %w", s.Name, err)
	}
	return p.lvm.Extend(ctx, s.Name, size)
}
