package provider

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/fermata-project/fermata/dm"
)

// DM makes snapshots of device-mapper volumes that are not LVM's, while they are in use: it slides snapshot-origin under
// the mounted volume, over a copy of the volume's table, and takes it out again when the last snapshot goes. What is
// overwritten is kept in areas on a storage volume, which is a directory or a device. The kernel knows none of it after a reboot: the snapshots are volatile.
//
// Truth is what devices exist, by their names and uuids, and a record beside each file.
type DM struct {
	control *dm.Control
	storage storage // nil: none is configured
	cow     COW
	reserve Share
	chunk   uint64 // bytes
	report  func(error)

	sweepOnce sync.Mutex
	swept     bool
}

// DMOptions of NewDM.
type DMOptions struct {
	Storage string // a directory; below /dev: a block device; empty: the provider takes nothing
	// Run is a directory that a reboot empties, for the records if the storage is a device. It is made when it is needed.
	Run     string
	COW     COW   // unless the policy has another wish
	Reserve Share // what stays free of the storage
	// Chunk is how much is copied when one byte of it is overwritten for the first time, in bytes: a power of two from
	// 4096 to 65536. Small ones make writes to the volume wait less, large ones need less memory. 0: 4096.
	Chunk uint64
	// Report is told of what could not be cleaned up; nil: nobody is.
	Report func(error)
}

// NewDM makes the provider.
func NewDM(c *dm.Control, o DMOptions) *DM {
	p := &DM{control: c, storage: newStorage(c, o.Storage, o.Run), cow: o.COW, reserve: o.Reserve, chunk: max(o.Chunk, 4096), report: o.Report}
	if p.report == nil {
		p.report = func(error) {}
	}
	return p
}

func (*DM) Name() string { return "dm" }
func (*DM) Kind() Kind   { return BuiltIn }

// Claim takes device-mapper volumes whose table can be mapped a second time.
func (p *DM) Claim(v Volume) (Claim, error) {
	switch {
	case v.Device == "":
		return Claim{}, errors.New("not a device-mapper volume: nothing can be slid under it")
	case strings.HasPrefix(v.UUID, lvmUUID):
		return Claim{}, errors.New("a volume of LVM, which would notice: thin and thick take those")
	case strings.HasPrefix(v.UUID, ownUUID):
		return Claim{}, errors.New("a device of Fermata's own")
	case p.storage == nil:
		return Claim{}, errNoStorage
	}
	if name := volumeOfLVM(v.Dev); name != "" {
		return Claim{}, fmt.Errorf("a physical volume of LVM, which would find it twice: take the volumes on it (%s)", name)
	}
	// The status, unlike the table, tells no secrets.
	targets, info, err := p.control.Status(dm.ByDev(v.Dev), dm.StatusNoFlush)
	if err != nil {
		return Claim{}, err
	}
	var types []string
	for _, t := range targets {
		types = append(types, t.Type)
	}
	if slices.Equal(types, []string{"snapshot-origin"}) {
		s, err := p.look(v.Dev)
		if err != nil {
			return Claim{}, err
		}
		if s.slid() {
			return Claim{Name: info.Name}, nil
		}
	}
	if err := copyable(types); err != nil {
		return Claim{}, err
	}
	return Claim{Name: info.Name}, nil
}

// volumeOfLVM names a device of LVM that maps dev, or is empty.
func volumeOfLVM(dev dm.Dev) string {
	uuids, _ := filepath.Glob(fmt.Sprintf("/sys/dev/block/%v/holders/*/dm/uuid", dev)) // the pattern is not malformed
	for _, path := range uuids {
		if b, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(b), lvmUUID) {
			name, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "name"))
			return strings.TrimSpace(string(name))
		}
	}
	return ""
}

// Admit checks the storage volume.
func (p *DM) Admit(_ context.Context, vols []Volume) error {
	if err := p.usable(); err != nil {
		return err
	}
	if err := p.apart(vols); err != nil {
		return err
	}
	var need uint64
	for _, v := range vols {
		need += p.storage.cost(p.areaSize(v))
	}
	return p.room(need)
}

// Snapshots lists the records whose devices exist. The first call of a provider clears away what a reboot, a crash, or
// somebody's hand has left of others.
func (p *DM) Snapshots(ctx context.Context) ([]Snapshot, error) {
	p.sweepFirst(ctx)
	records, err := p.records()
	if err != nil || len(records) == 0 {
		return nil, err
	}
	devices, err := p.ownDevices()
	if err != nil {
		return nil, err
	}
	var out []Snapshot
	for _, r := range records {
		if r.Device == "" || devices[ownName+r.Name] != r.uuid() {
			continue
		}
		s := r.snapshot()
		if !r.Armed {
			s.Invalid = p.invalid(r)
		}
		out = append(out, s)
	}
	return out, nil
}

// Volatile is true: see Snapshot.
func (*DM) Volatile() bool { return true }

// Sees is always true: the records are beside the devices, in memory, and a reboot takes both.
func (*DM) Sees(context.Context, string) (bool, error) { return true, nil }

// ownDevices are the uuids of our devices, by their names.
func (p *DM) ownDevices() (map[string]string, error) {
	all, err := p.control.List()
	if err != nil {
		return nil, err
	}
	own := map[string]string{}
	for _, e := range all {
		if strings.HasPrefix(e.UUID, ownUUID) {
			own[e.Name] = e.UUID
		}
	}
	return own, nil
}

// invalid says why a finished snapshot's content is lost.
func (p *DM) invalid(r record) string {
	u, err := p.Usage(r.snapshot())
	if err != nil {
		return err.Error()
	}
	if u.Invalid {
		return "its copy-on-write area has overflowed, or could not be written"
	}
	s, err := p.look(r.origin())
	if err == nil {
		err = s.kept()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// Mark arms the records of finished snapshots again.
func (p *DM) Mark(_ context.Context, snaps []Snapshot) error {
	var errs []error
	for _, s := range snaps {
		if s.Armed {
			continue
		}
		r, err := p.record(s.Name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			r.Armed = true
			err = p.write(r)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Delete removes snapshots, and gives origins that have no others their own tables back.
func (p *DM) Delete(ctx context.Context, snaps []Snapshot) error {
	if len(snaps) == 0 {
		return nil
	}
	return p.locked(ctx, func() error {
		var errs []error
		for _, s := range snaps {
			errs = append(errs, p.drop(s.Name))
		}
		return errors.Join(errs...)
	})
}

// drop removes everything of one snapshot, as far as it exists. What it may be stopped at, the next call continues.
func (p *DM) drop(name string) error {
	devices, err := p.ownDevices()
	if err != nil {
		return err
	}
	origins := map[dm.Dev]bool{}
	for _, device := range []string{ownName + name, ownName + name + cowEnd} {
		if dev, ok := originOf(devices[device]); ok {
			origins[dev] = true
		}
	}
	if r, err := p.record(name); err == nil {
		origins[r.origin()] = true
	}
	if err := p.removeDevice(ownName + name); err != nil {
		return fmt.Errorf("cannot delete snapshot %s: %w", name, err)
	}
	err = p.dropArea(name)
	for dev := range origins {
		err = errors.Join(err, p.settle(dev))
	}
	if err != nil {
		return fmt.Errorf("cannot delete all of snapshot %s: %w", name, err)
	}
	for _, path := range []string{p.recordPath(name) + newEnd, p.recordPath(name)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("cannot remove the record of snapshot %s: %w", name, err)
		}
	}
	return nil
}

func (p *DM) sweepFirst(ctx context.Context) {
	p.sweepOnce.Lock()
	defer p.sweepOnce.Unlock()
	if p.swept || p.usable() != nil {
		return
	}
	p.swept = true
	if err := p.locked(ctx, p.sweep); err != nil {
		p.report(fmt.Errorf("cannot clear away all that is left of snapshots: %w", err))
	}
}

// sweep removes what belongs to no snapshot: records whose devices are gone, with their files, and what is slid under an
// origin that has no snapshots.
func (p *DM) sweep() error {
	records, err := p.records()
	if err != nil {
		return err
	}
	devices, err := p.ownDevices()
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range records {
		if devices[ownName+r.Name] == "" {
			errs = append(errs, p.drop(r.Name))
		}
	}
	for _, uuid := range devices {
		if dev, ok := originOf(uuid); ok && strings.HasPrefix(uuid, realUUID) {
			errs = append(errs, p.settle(dev))
		}
	}
	return errors.Join(errs...)
}

// Expose returns the snapshot's device, which is there as long as the snapshot is.
func (p *DM) Expose(_ context.Context, s Snapshot) (string, error) {
	r, err := p.record(s.Name)
	if err != nil {
		return "", fmt.Errorf("cannot expose snapshot %s: %w", s.Name, err)
	}
	if why := p.invalid(r); why != "" {
		return "", fmt.Errorf("cannot expose snapshot %s: its content is lost: %s (delete it)", s.Name, why)
	}
	info, err := p.control.Info(dm.ByName(ownName + s.Name))
	if err != nil {
		return "", err
	}
	return dm.NodePath(info.Name), dm.EnsureNode(info.Name, info.Dev)
}

// Hide does nothing: a snapshot without its device would keep nothing.
func (*DM) Hide(context.Context, []Snapshot) error { return nil }

// InUse asks the kernel how often the snapshot is open.
func (p *DM) InUse(s Snapshot) (bool, error) {
	return isOpen(p.control.Info(dm.ByName(ownName + s.Name)))
}

// Usage asks dm-snapshot.
func (p *DM) Usage(s Snapshot) (Usage, error) {
	targets, info, err := p.control.Status(dm.ByName(ownName+s.Name), dm.StatusNoFlush)
	if err != nil {
		return Usage{}, err
	}
	if len(targets) != 1 || targets[0].Type != "snapshot" {
		return Usage{}, fmt.Errorf("%w: %s is no snapshot", ErrChanged, info.Name)
	}
	t, err := dm.ParseSnapshot(targets[0].Params)
	if err != nil {
		return Usage{}, err
	}
	return Usage{Size: t.Total * 512, Used: t.Used * 512, Metadata: t.Metadata * 512, Invalid: t.Invalid || t.Overflow}, nil
}

// Resize grows a snapshot's copy-on-write area, rounded up to whole chunks, at most to a full copy.
func (p *DM) Resize(ctx context.Context, s Snapshot, size uint64) error {
	return p.locked(ctx, func() error {
		r, err := p.record(s.Name)
		if err != nil {
			return err
		}
		if why := p.invalid(r); why != "" {
			return fmt.Errorf("cannot grow the copy-on-write area of %s: %s (delete the snapshot)", s.Name, why)
		}
		size = areaSize(size, r.Size, p.chunk)
		if size <= r.COW {
			return nil
		}
		// What was loaded by whoever died before making it live takes room.
		if err := p.control.Clear(areaRef(r.Name)); err != nil {
			return err
		}
		if err := p.room(p.storage.cost(size) - p.storage.cost(r.COW)); err != nil {
			return err
		}
		if err := p.growArea(r.Name, size); err != nil {
			return err
		}
		r.COW = size
		return p.write(r)
	})
}
