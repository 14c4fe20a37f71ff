package provider

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/lvm"
)

// lvmVolumes is what the providers of LVM volumes have in common.
type lvmVolumes struct {
	control *dm.Control
	lvm     *lvm.LVM
	host    Host
}

// lvmUUID begins the device-mapper uuid of every LVM device; that of a public one has no layer after its two uuids.
const lvmUUID = "LVM-"

// hiddenNames are what LVM puts into the names of its internal volumes, some of which have a uuid like public ones. No
// public volume can be named so (lib/misc/lvm-string.c).
var hiddenNames = []string{
	"_cdata", "_cmeta", "_corig", "_cpool", "_cvol", "_wcorig", "_mimage", "_mlog", "_rimage", "_rmeta", "_tdata", "_tmeta",
	"_vdata", "_vorigin", "_imeta", "_iorig", "_pmspare",
}

// publicLV is the name, vg/lv, of a volume that LVM shows to its users; the error says why v is none.
func publicLV(v Volume) (string, error) {
	ids, ok := strings.CutPrefix(v.UUID, lvmUUID)
	if !ok {
		return "", errors.New("not a volume of LVM")
	}
	vg, lv, layer, ok := dm.SplitLVMName(v.Device)
	hidden := !ok || layer != "" || strings.Contains(ids, "-") || strings.HasPrefix(lv, "pvmove")
	for _, part := range hiddenNames {
		hidden = hidden || strings.Contains(lv, part)
	}
	if hidden {
		return "", errors.New("a hidden volume of LVM")
	}
	return vg + "/" + lv, nil
}

// lvmlockd listens here (lvmlockd-client.h). Without it no shared volume group can be active.
const lvmlockdSocket = "/run/lvm/lvmlockd.socket"

func lvmlockdRuns() bool {
	_, err := os.Stat(lvmlockdSocket)
	return err == nil
}

// notShared refuses volume groups that several hosts share: LVM's lock file on this one keeps no other host out.
func notShared(inventory *lvm.Inventory, vols []Volume) error {
	var errs []error
	for _, vg := range groupsOf(vols) {
		if g, ok := inventory.VG(vg); ok && g.Shared {
			errs = append(errs, fmt.Errorf("volume group %s is shared with other hosts, which Fermata cannot keep from changing it", vg))
		}
	}
	return errors.Join(errs...)
}

// Problems are LVM commands that a time limit has left behind.
func (p *lvmVolumes) Problems() []string {
	var out []string
	for _, c := range p.lvm.LeftBehind() {
		out = append(out, c.String()+"; no other is started until it ends")
	}
	return out
}

// Settle waits until no LVM command runs.
func (p *lvmVolumes) Settle(ctx context.Context) error { return p.lvm.Wait(ctx) }

// Mark tags finished snapshots as armed, all those of one volume group by one change of its metadata.
func (p *lvmVolumes) Mark(ctx context.Context, snaps []Snapshot) error {
	var finished []Snapshot
	for _, s := range snaps {
		if !s.Armed && !s.Scratch {
			finished = append(finished, s)
		}
	}
	if len(finished) == 0 {
		return nil
	}
	add, remove := markTags(p.host, finished)
	return p.lvm.ChangeTags(ctx, namesOf(finished), add, remove)
}

// GroupOf is the first part of its name.
func (p *lvmVolumes) GroupOf(s Snapshot) string {
	vg, _, _ := strings.Cut(s.Name, "/")
	return vg
}

// Sees reports whether the volume group is there.
func (p *lvmVolumes) Sees(ctx context.Context, name string) (bool, error) {
	inventory, err := p.lvm.Report(ctx)
	if err != nil {
		return false, err
	}
	vg, _, _ := strings.Cut(name, "/")
	_, ok := inventory.VG(vg)
	return ok, nil
}

// InUse asks the kernel how often the volume is open.
func (p *lvmVolumes) InUse(s Snapshot) (bool, error) {
	return isOpen(p.control.Info(dm.ByName(deviceName(s.Name))))
}

// isOpen reports whether a device is open, given what the kernel says of it. One that is not there is not.
func isOpen(info dm.Info, err error) (bool, error) {
	if errors.Is(err, unix.ENXIO) {
		return false, nil
	}
	return info.OpenCount > 0, err
}

// namesOf are the names of snapshots.
func namesOf(snaps []Snapshot) []string {
	var names []string
	for _, s := range snaps {
		names = append(names, s.Name)
	}
	return names
}

// deviceName is the device-mapper name of a volume vg/lv.
func deviceName(name string) string {
	vg, lv, _ := strings.Cut(name, "/")
	return dm.JoinLVMName(vg, lv, "")
}
