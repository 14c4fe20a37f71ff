package daemon

import (
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
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/fsfreeze"
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

// MountSet mounts all filesystems of a set as one tree, structured as the live paths.
func (d *Daemon) MountSet(ctx context.Context, id string, o api.MountOptions) (mounts []api.Mount, err error) {
	release, err := d.turn.take(ctx, false)
	if err != nil {
		return nil, err
	}
	defer release()
	m, snaps, err := d.find(id)
	if err != nil {
		return nil, err
	}
	if at := d.mounted(m); len(at) > 0 {
		return at, api.Errorf(api.Invalid, "cannot mount set %s: it is mounted already, at %s", m.ID, at[0].Path)
	}
	base := o.Target
	if base == "" {
		base = d.mountBase(m)
	}
	if !filepath.IsAbs(base) {
		return nil, api.Errorf(api.Invalid, "cannot mount set %s at %s: not an absolute path", m.ID, base)
	}
	// Undo is umount: it looks for what is mounted, so that it copes with whatever is there.
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("cannot mount set %s: %w", m.ID, err), d.umount(context.WithoutCancel(ctx), m))
			mounts = nil
		}
	}()
	var todo []provider.Snapshot
	for _, s := range snaps {
		if s.FSType != "" && s.MountPoint != "" {
			todo = append(todo, s)
		}
	}
	if len(todo) == 0 {
		return nil, api.Errorf(api.Invalid, "none of its volumes holds a filesystem")
	}
	slices.SortFunc(todo, func(a, b provider.Snapshot) int { return strings.Compare(a.MountPoint, b.MountPoint) }) // outer before inner
	for _, s := range todo {
		mount, err := d.mountOne(ctx, s, filepath.Join(base, s.MountPoint), o.Writable)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, mount)
	}
	d.o.Log.Info("set mounted", "set", m.ID, "at", base, "writable", o.Writable)
	return mounts, nil
}

func (d *Daemon) mountOne(ctx context.Context, s provider.Snapshot, path string, writable bool) (api.Mount, error) {
	p, err := d.provider(s.Provider)
	if err != nil {
		return api.Mount{}, err
	}
	if writable {
		c, ok := p.(provider.Copier)
		if !ok {
			return api.Mount{}, api.Errorf(api.Invalid, "provider %s cannot make writable copies", p.Name())
		}
		if s, err = c.Copy(ctx, s); err != nil {
			return api.Mount{}, err
		}
	}
	device, err := p.Expose(ctx, s)
	if err != nil {
		return api.Mount{}, err
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return api.Mount{}, err
	}
	call := MountCall{Device: device, Path: path, FSType: s.FSType, Options: mountOptions(s.FSType, writable), ReadOnly: !writable}
	if err := d.o.Host.Mount(call); err != nil {
		return api.Mount{}, err
	}
	return api.Mount{MountPoint: s.MountPoint, Path: path, Device: device, Writable: writable}, nil
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
	m, _, err := d.find(id)
	if err != nil {
		return err
	}
	if err := d.umount(ctx, m); err != nil {
		return fmt.Errorf("cannot unmount set %s: %w", m.ID, err)
	}
	d.o.Log.Info("set unmounted", "set", m.ID)
	return nil
}

// umount undoes MountSet, however far it got. A set that is not mounted is no error.
func (d *Daemon) umount(ctx context.Context, m api.Manifest) error {
	for _, at := range slices.Backward(d.mounted(m)) {
		if err := d.o.Host.Unmount(at.Path); err != nil {
			return err
		}
		removeEmpty(at.Path, strings.TrimSuffix(at.Path, at.MountPoint))
	}
	removeEmpty(d.mountBase(m), d.o.Config.Daemon.MountDirectory)
	var errs []error
	for _, p := range d.o.Providers {
		snaps, err := p.Snapshots(ctx)
		errs = append(errs, err)
		var scratch []provider.Snapshot
		for _, s := range snaps {
			switch {
			case s.Set.ID != m.ID:
			case s.Scratch:
				scratch = append(scratch, s)
			default:
				errs = append(errs, p.Hide(ctx, s))
			}
		}
		if len(scratch) > 0 {
			errs = append(errs, p.Delete(ctx, scratch))
		}
	}
	return errors.Join(errs...)
}

// removeEmpty removes a directory and its empty parents up to and without stop. Directories that are in use, or on a
// read-only filesystem because they belong to a snapshot, stay.
func removeEmpty(dir, stop string) {
	for ; strings.HasPrefix(dir, stop+"/"); dir = filepath.Dir(dir) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
}

// mounted finds where a set is mounted, from the mount table: a snapshot's device is known by its name. Outer mounts
// come before inner ones.
func (d *Daemon) mounted(m api.Manifest) []api.Mount {
	mounts, err := d.o.Host.Mounts()
	if err != nil {
		return nil
	}
	names := map[string]string{} // device-mapper name of a snapshot → mount point of its origin
	for _, v := range m.Volumes {
		vg, lv, _ := strings.Cut(v.Name, "/")
		names[dm.JoinLVMName(vg, lv, "")] = v.MountPoint
	}
	var out []api.Mount
	for _, f := range fsfreeze.Filesystems(mounts) {
		if unix.Major(f.Dev) == 0 { // no block device
			continue
		}
		s, err := d.o.Host.Stack(f.Dev)
		if err != nil {
			continue
		}
		name, scratch := strings.CutSuffix(s.DM, provider.ScratchSuffix)
		point, ok := names[name]
		if !ok {
			continue
		}
		for _, x := range f.Mounts {
			out = append(out, api.Mount{MountPoint: point, Path: x.Point, Device: "/dev/mapper/" + s.DM, Writable: scratch})
		}
	}
	slices.SortStableFunc(out, func(a, b api.Mount) int { return strings.Compare(a.Path, b.Path) })
	return out
}
