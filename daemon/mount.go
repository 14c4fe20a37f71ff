package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/hooks"
)

// mountOptions are what a filesystem type needs so that an image of it can be mounted beside its origin: an image of XFS
// has its origin's UUID, and neither XFS nor ext4 may replay a journal on a read-only device. A frozen image has nothing
// to replay (xfs(5), ext4(5)).
func mountOptions(fstype string, writable bool) string {
	switch {
	case fstype == "xfs" && writable:
		return "nouuid"
	case fstype == "xfs":
		return "nouuid,norecovery"
	case strings.HasPrefix(fstype, "ext") && fstype != "ext2" && !writable:
		return "noload"
	}
	return ""
}

// MountSet mounts all filesystems of a set as one tree, structured as the live paths, and makes the devices of its raw
// volumes readable, at their links.
func (d *Daemon) MountSet(ctx context.Context, id string, o api.MountOptions) ([]api.Mount, error) {
	return d.mountSet(ctx, id, o, nil)
}

// mountSet is MountSet, of a set that by uses; nil: nobody's use ends by itself.
func (d *Daemon) mountSet(ctx context.Context, id string, o api.MountOptions, by *user) (mounts []api.Mount, err error) {
	release, err := d.turn.take(ctx, false)
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel := d.bounded(ctx)
	defer cancel()
	m, snaps, err := d.find(id)
	if err != nil {
		return nil, err
	}
	if err := d.idle("mount", m.ID, hooks.PhaseVerify); err != nil {
		return nil, err
	}
	present, err := d.mountsOf(m.ID)
	if err != nil {
		return nil, fmt.Errorf("cannot mount set %s: %w", m.ID, err)
	}
	if at := mountsIn(present); len(at) > 0 {
		return at, api.Errorf(api.Invalid, "cannot mount set %s: it is mounted already, at %s", m.ID, cmp.Or(at[0].Path, at[0].Link))
	}
	base := o.Target
	if base == "" {
		base = d.mountBase(m)
	}
	if !filepath.IsAbs(base) {
		return nil, api.Errorf(api.Invalid, "cannot mount set %s at %s: not an absolute path", m.ID, base)
	}
	if err := d.vacant(base); err != nil {
		return nil, fmt.Errorf("cannot mount set %s: %w", m.ID, err)
	}
	if err := d.mountedAnew(m.ID); err != nil {
		return nil, err
	}
	// Undo is umount: it looks for what is mounted, so that it copes with whatever is there.
	defer func() {
		if err != nil {
			undo, cancel := d.within(ctx, d.undoLimit)
			defer cancel()
			err = errors.Join(late(fmt.Errorf("cannot mount set %s: %w", m.ID, err)), d.umount(undo, m))
			mounts = nil
		}
	}()
	todo := slices.Clone(snaps)
	slices.SortFunc(todo, func(a, b provider.Snapshot) int { return comparePaths(a.MountPoint, b.MountPoint) }) // outer before inner
	record := mountRecord{User: by}
	for _, s := range todo {
		if s.Invalid != "" {
			return nil, fmt.Errorf("the snapshot of %s is lost: %s", s.Origin, s.Invalid)
		}
		call, device, err := d.image(ctx, s, o.Writable)
		if err != nil {
			return nil, err
		}
		if !raw(s) {
			call.Path = filepath.Join(base, s.MountPoint)
		}
		dev, err := d.number(call.Device)
		if err != nil {
			return nil, err
		}
		mount := api.Mount{MountPoint: s.MountPoint, Path: call.Path, Device: call.Device, Link: d.linkPath(device), Writable: o.Writable}
		record.Mounts = append(record.Mounts, recordedMount{Mount: mount, Snapshot: device.Name, Base: base, Dev: dev})
		if err := d.saveRecord(m.ID, record); err != nil {
			return nil, err
		}
		mounts = append(mounts, mount)
		if raw(s) {
			continue
		}
		err = d.mounting(ctx, m.ID, "mount", call.Path, func() error {
			if err := os.MkdirAll(call.Path, 0o755); err != nil { // perhaps in what was mounted before
				return err
			}
			return d.o.Host.Mount(call)
		})
		if err != nil {
			if call.FSType == "btrfs" && errors.Is(err, unix.EEXIST) {
				err = fmt.Errorf("%w: its origin is mounted, and before Linux 6.7 two btrfs of one id cannot be; provider %s makes no copies that could have another (unmount %s, or take it by a provider that can copy: fermata provider list)",
					err, s.Provider, s.MountPoint)
			}
			return nil, err
		}
	}
	d.o.Log.Info("set mounted", "set", m.ID, "at", base, "writable", o.Writable)
	return mounts, nil
}

// vacant is nil if nothing is mounted at a directory or below it: two sets in one tree would be read as one, and which of them is
// mounted where both are, nobody sees.
func (d *Daemon) vacant(base string) error {
	mounts, err := d.o.Host.Mounts()
	if err != nil {
		return err
	}
	base = filepath.Clean(base)
	for _, m := range mounts {
		if m.Point == base || strings.HasPrefix(m.Point, strings.TrimSuffix(base, "/")+"/") {
			return api.Errorf(api.Busy, "%s is in use: something is mounted at %s (wait until who uses it has ended: fermata job list, fermata status; or mount the set elsewhere)", base, m.Point)
		}
	}
	return nil
}

// raw reports whether a snapshot is of a volume that was mounted nowhere.
func raw(s provider.Snapshot) bool { return s.FSType == "" || s.MountPoint == "" }

// image makes a snapshot ready to be mounted, or a throw-away copy of it, and says which of them, and how.
func (d *Daemon) image(ctx context.Context, s provider.Snapshot, writable bool) (call MountCall, shown provider.Snapshot, err error) {
	p, err := d.provider(s.Provider)
	if err != nil {
		return call, s, err
	}
	copier, canCopy := p.(provider.Copier)
	twin := s.FSType == "btrfs" && p.Kind() != provider.Software // an image of the device, with the id of its origin
	switch {
	case canCopy && (writable || twin):
		if s, err = copier.Copy(ctx, s); err != nil {
			return call, s, err
		}
	case writable:
		return call, s, api.Errorf(api.Invalid, "provider %s cannot make writable copies", p.Name())
	}
	device, err := d.expose(ctx, p, s)
	if err != nil {
		return call, s, err
	}
	if twin && s.Scratch {
		if err := d.o.Host.RenewID(ctx, device); err != nil {
			return call, s, err
		}
	}
	options := joined(mountOptions(s.FSType, writable), s.Options)
	return MountCall{Device: device, FSType: s.FSType, Options: options, ReadOnly: !writable}, s, nil
}

// comparePaths orders paths so that each comes before what lies below it.
func comparePaths(a, b string) int {
	return slices.Compare(strings.Split(filepath.Clean(a), "/"), strings.Split(filepath.Clean(b), "/"))
}

// mountBase is where a set is mounted: by policy and time.
func (d *Daemon) mountBase(m api.Manifest) string {
	policy := m.Policy
	if policy == "" {
		policy = "manual"
	}
	return filepath.Join(d.o.Config.Daemon.MountDirectory, policy, m.ID)
}

// UmountSet unmounts a set and removes what mounting it had made.
func (d *Daemon) UmountSet(ctx context.Context, id string) error {
	release, err := d.turn.take(ctx, false)
	if err != nil {
		return err
	}
	defer release()
	return d.umountSet(ctx, id)
}

// umountSet is UmountSet for who has the turn.
func (d *Daemon) umountSet(ctx context.Context, id string) error {
	ctx, cancel := d.bounded(ctx)
	defer cancel()
	m, _, err := d.find(id)
	if err != nil {
		return err
	}
	if err := d.idle("unmount", m.ID, hooks.PhaseVerify); err != nil { // that has copies of its own
		return err
	}
	if err := d.umount(ctx, m); err != nil {
		return late(fmt.Errorf("cannot unmount set %s: %w", m.ID, err))
	}
	d.o.Log.Info("set unmounted", "set", m.ID)
	return nil
}

// umount undoes MountSet, however far it got. A set that is not mounted is no error.
func (d *Daemon) umount(ctx context.Context, m api.Manifest) error {
	if err := d.calls.left(mountKey(m.ID)); err != nil { // what it does is not seen yet
		return api.Errorf(api.Refused, "%w", err)
	}
	record, err := d.recordOf(m.ID)
	if err != nil {
		return err
	}
	present, err := d.mountsOf(m.ID)
	if err != nil {
		return err
	}
	for _, at := range slices.Backward(present) {
		if at.Path == "" {
			continue // raw: hideSet puts it away
		}
		if err := d.mounting(ctx, m.ID, "unmount", at.Path, func() error { return d.o.Host.Unmount(at.Path) }); err != nil {
			return err
		}
	}
	err = d.mounting(ctx, m.ID, "tidy", d.mountBase(m), func() error {
		for _, at := range slices.Backward(record.Mounts) {
			if at.Path != "" {
				removeEmpty(at.Path, at.Base)
			}
		}
		removeEmpty(d.mountBase(m), d.o.Config.Daemon.MountDirectory)
		return nil
	})
	if err != nil {
		return err
	}
	if err := d.hideSet(ctx, m.ID); err != nil {
		return err
	}
	return d.saveRecord(m.ID, mountRecord{})
}

// hideSet takes away the devices of a set's snapshots, and throw-away copies altogether.
func (d *Daemon) hideSet(ctx context.Context, set string) error {
	var errs []error
	reading := provider.Reading(ctx)
	for _, p := range d.providersOf(set) {
		snaps, err := p.Snapshots(reading)
		errs = append(errs, err)
		var shown, scratch []provider.Snapshot
		for _, s := range snaps {
			switch {
			case s.Set.ID != set:
			case s.Scratch:
				scratch = append(scratch, s)
			case d.reads(set):
			default:
				shown = append(shown, s)
			}
		}
		if len(shown) > 0 {
			errs = append(errs, d.hide(ctx, p, shown))
		}
		if len(scratch) > 0 {
			errs = append(errs, d.remove(ctx, scratch))
		}
	}
	return errors.Join(errs...)
}

// providersOf are those that have snapshots of a set, or all if nobody knows: one that cannot answer must not keep the sets
// of the others mounted.
func (d *Daemon) providersOf(set string) []provider.Provider {
	d.mu.Lock()
	snaps := d.contents.Snapshots[set]
	d.mu.Unlock()
	if len(snaps) == 0 {
		return d.o.Providers
	}
	return slices.DeleteFunc(slices.Clone(d.o.Providers), func(p provider.Provider) bool {
		return !slices.ContainsFunc(snaps, func(s provider.Snapshot) bool { return s.Provider == p.Name() })
	})
}

// removeEmpty removes a directory and its empty parents up to and without stop. Directories that are in use, or on a
// read-only filesystem because they belong to a snapshot, stay.
func removeEmpty(dir, stop string) {
	for ; strings.HasPrefix(dir, strings.TrimSuffix(stop, "/")+"/"); dir = filepath.Dir(dir) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
}
