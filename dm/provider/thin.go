package provider

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/lvm"
)

// Thin makes snapshots of LVM thin volumes. It arms a volume with lvcreate, which gives LVM a complete record with a
// thin device id, takes the device behind the id away again, and in the window re-takes the snapshot under the same id:
// LVM's metadata stays true, and its transaction id does not move.
type Thin struct {
	lvmVolumes
	reserve Reserve
}

// Reserve is what must be free in a pool for a set to be admitted.
type Reserve struct{ Data, Metadata Share }

// Share is a part of a pool: of a total in bytes, so many bytes.
type Share interface {
	Of(total uint64) uint64
	String() string
}

// NewThin makes the provider.
func NewThin(c *dm.Control, l *lvm.LVM, r Reserve) *Thin {
	return &Thin{lvmVolumes: lvmVolumes{control: c, lvm: l, host: ThisHost()}, reserve: r}
}

func (*Thin) Name() string { return "thin" }
func (*Thin) Kind() Kind   { return BuiltIn }

// Claim takes thin volumes of LVM.
func (p *Thin) Claim(v Volume) (Claim, error) {
	name, err := publicLV(v)
	if err != nil {
		return Claim{}, err
	}
	if _, _, err := p.table(v.Dev); err != nil {
		return Claim{}, err
	}
	return Claim{Name: name, Writes: true}, nil
}

// table reads where a thin volume lives; live is its table as it stands.
func (p *Thin) table(dev dm.Dev) (t dm.ThinTable, live dm.Target, err error) {
	targets, _, err := p.control.Table(dm.ByDev(dev))
	if err != nil {
		return t, live, err
	}
	if len(targets) != 1 || targets[0].Type != "thin" {
		return t, live, errors.New("not a thin volume")
	}
	t, err = dm.ParseThinTable(targets[0].Params)
	return t, targets[0], err
}

// Mapped is how much of a thin volume has blocks in its pool, in bytes.
func (p *Thin) Mapped(v Volume) (uint64, error) {
	targets, _, err := p.control.Status(dm.ByDev(v.Dev), dm.StatusNoFlush)
	if err != nil {
		return 0, err
	}
	if len(targets) != 1 || targets[0].Type != "thin" {
		return 0, errors.New("not a thin volume")
	}
	s, err := dm.ParseThin(targets[0].Params)
	if err != nil {
		return 0, err
	}
	if s.Fail || s.Error || s.NoDevice {
		return 0, fmt.Errorf("%w: %s does not tell its status", ErrPool, v.Name)
	}
	return s.Mapped * 512, nil
}

// poolStatus asks the kernel for a pool's state. It makes the pool commit nothing.
func (p *Thin) poolStatus(pool dm.Dev) (dm.ThinPoolStatus, dm.Info, error) {
	targets, info, err := p.control.Status(dm.ByDev(pool), dm.StatusNoFlush)
	if err != nil {
		return dm.ThinPoolStatus{}, info, err
	}
	if len(targets) != 1 || targets[0].Type != "thin-pool" {
		return dm.ThinPoolStatus{}, info, fmt.Errorf("internal error: %s is no thin pool", info.Name)
	}
	s, err := dm.ParseThinPool(targets[0].Params)
	return s, info, err
}

// healthy is nil if the pool takes writes and has lost none.
func healthy(name string, s dm.ThinPoolStatus) error {
	switch {
	case s.NeedsCheck:
		return fmt.Errorf("%w: %s needs a check (deactivate it and run lvconvert --repair %s)", ErrPool, name, name)
	case s.Mode != dm.PoolReadWrite:
		return fmt.Errorf("%w: %s is %s (extend it: lvextend -L +SIZE %s)", ErrPool, name, s.Mode, name)
	}
	return nil
}

// room is nil if the pool has its reserve.
func (r Reserve) room(p Pool) error {
	lacking := func(what, option string, used, total uint64, keep Share) error {
		if free := total - min(used, total); free < keep.Of(total) {
			return fmt.Errorf("%w: pool %s has %.1f%% of its %s free, and %v is to be kept in reserve (extend it: lvextend %s +SIZE %s)",
				ErrNoRoom, p.Name, 100*float64(free)/float64(max(total, 1)), what, keep, option, p.Name)
		}
		return nil
	}
	return errors.Join(
		lacking("data space", "-L", p.Used, p.Size, r.Data),
		lacking("metadata space", "--poolmetadatasize", p.MetadataUsed, p.MetadataSize, r.Metadata))
}

// Admit checks the pools of all volumes.
func (p *Thin) Admit(ctx context.Context, vols []Volume) error {
	pools := map[dm.Dev]bool{}
	var errs []error
	if lvmlockdRuns() { // a command, which hosts that share nothing are spared
		inventory, err := p.lvm.Report(ctx, groupsOf(vols)...)
		if err != nil {
			return err
		}
		errs = append(errs, notShared(inventory, vols))
	}
	for _, v := range vols {
		t, _, err := p.table(v.Dev)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if pools[t.Pool] {
			continue
		}
		pools[t.Pool] = true
		pool, s, err := p.pool(t.Pool)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, errors.Join(healthy(pool.Name, s), p.reserve.room(pool)))
	}
	return errors.Join(errs...)
}

// poolName is a pool's name in LVM, from its device-mapper name.
func poolName(device string) string {
	vg, lv, _, ok := dm.SplitLVMName(device)
	if !ok {
		return device
	}
	return vg + "/" + lv
}

// Pools lists the thin pools of the host, LVM's and others.
func (p *Thin) Pools() ([]Pool, error) {
	entries, err := p.control.List()
	if err != nil {
		return nil, err
	}
	var out []Pool
	var errs []error
	for _, e := range entries {
		targets, _, err := p.control.Table(dm.ByDev(e.Dev))
		if errors.Is(err, unix.ENXIO) {
			continue // it has just gone
		}
		if err != nil || len(targets) != 1 || targets[0].Type != "thin-pool" {
			errs = append(errs, err)
			continue
		}
		pool, _, err := p.pool(e.Dev)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, pool)
	}
	return out, errors.Join(errs...)
}

// pool gathers what the kernel tells of a pool.
func (p *Thin) pool(dev dm.Dev) (Pool, dm.ThinPoolStatus, error) {
	targets, _, err := p.control.Table(dm.ByDev(dev))
	if err != nil {
		return Pool{}, dm.ThinPoolStatus{}, err
	}
	if len(targets) != 1 || targets[0].Type != "thin-pool" {
		return Pool{}, dm.ThinPoolStatus{}, fmt.Errorf("device %v is no thin pool", dev)
	}
	t, err := dm.ParseThinPoolTable(targets[0].Params)
	if err != nil {
		return Pool{}, dm.ThinPoolStatus{}, err
	}
	s, info, err := p.poolStatus(dev)
	block := t.BlockSize * 512
	return Pool{
		Name: poolName(info.Name), Device: info.Name, Mode: s.Mode.String(), NeedsCheck: s.NeedsCheck,
		Size: s.TotalData * block, Used: s.UsedData * block,
		MetadataSize: s.TotalMetadata * 4096, MetadataUsed: s.UsedMetadata * 4096,
	}, s, err
}

// Snapshots lists what LVM's tags call ours.
func (p *Thin) Snapshots(ctx context.Context) ([]Snapshot, error) {
	inventory, err := p.lvm.Report(ctx)
	if err != nil {
		return nil, err
	}
	var out []Snapshot
	for _, lv := range inventory.LVs {
		s, ok := parseTags(lv.Tags)
		if !ok || lv.Pool == "" {
			continue
		}
		s.Provider, s.Name, s.Size, s.Pool = p.Name(), lv.VG+"/"+lv.Name, lv.Size, lv.VG+"/"+lv.Pool
		out = append(out, s)
	}
	return out, nil
}

// Delete removes snapshots.
func (p *Thin) Delete(ctx context.Context, snaps []Snapshot) error {
	return p.lvm.Remove(ctx, namesOf(snaps)...)
}

// Expose activates a snapshot.
func (p *Thin) Expose(ctx context.Context, s Snapshot) (string, error) {
	if err := p.lvm.Activate(ctx, s.Name, true); err != nil {
		return "", err
	}
	name := deviceName(s.Name)
	info, err := p.control.Info(dm.ByName(name))
	if err != nil {
		return "", err
	}
	return dm.NodePath(name), dm.EnsureNode(name, info.Dev)
}

// Hide deactivates those that are active.
func (p *Thin) Hide(ctx context.Context, snaps []Snapshot) error {
	active := slices.DeleteFunc(namesOf(snaps), func(name string) bool {
		_, err := p.control.Info(dm.ByName(deviceName(name)))
		return errors.Is(err, unix.ENXIO)
	})
	return p.lvm.Deactivate(ctx, active...)
}

// ScratchSuffix ends the name of a throw-away copy.
const ScratchSuffix = ".scratch"

// Copy makes a writable throw-away copy of a snapshot.
func (p *Thin) Copy(ctx context.Context, s Snapshot) (Snapshot, error) {
	vg, lv, _ := strings.Cut(s.Name, "/")
	c := s
	c.Scratch, c.Name, c.Machine, c.Host = true, s.Name+ScratchSuffix, p.host.Machine, p.host.Name
	tags := append(tagsOf(p.host, s.Set, Volume{Name: s.Origin, MountPoint: s.MountPoint, FSType: s.FSType, Options: s.Options}), tagScratch)
	tags = slices.DeleteFunc(tags, func(t string) bool { return t == tagArmed })
	return c, p.lvm.CreateThinSnapshot(ctx, vg, lv, lv+ScratchSuffix, false, tags...)
}
