package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm/provider/plugin/pluginmain"
	"github.com/fermata-project/fermata/dm/provider/plugin/protocol"
	"github.com/fermata-project/fermata/fsfreeze"
)

// subvolumes is the plug-in. Between Prepare and Finalize it belongs to one set.
type subvolumes struct {
	pluginmain.Nothing
	set     protocol.Set
	members []*member
}

// member is a volume of the set, with everything open that Commit needs.
type member struct {
	place   *place
	snap    protocol.Snapshot
	capture *capture
	omits   []string // subvolumes that were nested in it when it was armed
}

func (*subvolumes) Hello() protocol.Greeting {
	return protocol.Greeting{Name: "btrfs", Kind: "software", Version: "1", Capabilities: []protocol.Capability{protocol.MayUnhold}}
}

// at opens what is mounted at a volume's mount point.
func at(v protocol.Volume) (*place, error) {
	if v.FSType != "btrfs" {
		return nil, errors.New("not a mounted btrfs")
	}
	mounts, err := fsfreeze.Mounts()
	if err != nil {
		return nil, err
	}
	m, ok := fsfreeze.At(mounts, v.MountPoint)
	if !ok {
		return nil, fmt.Errorf("nothing is mounted at %s", v.MountPoint)
	}
	return open(m)
}

func (*subvolumes) Claim(_ context.Context, v protocol.Volume) (protocol.Claimed, error) {
	p, err := at(v)
	if err != nil {
		return protocol.Claimed{}, err
	}
	defer p.close()
	if err := unix.Access(v.MountPoint, unix.W_OK); errors.Is(err, unix.EROFS) {
		return protocol.Claimed{}, errors.New("mounted read-only: a snapshot needs a place on it")
	}
	return protocol.Claimed{Name: p.name(), Unheld: true, Writes: true}, nil
}

// Admit wants a hundredth of the filesystem free: a snapshot takes little, and a full btrfs cannot even delete.
func (*subvolumes) Admit(_ context.Context, vols []protocol.Volume) error {
	for _, v := range vols {
		var s unix.Statfs_t
		if err := unix.Statfs(v.MountPoint, &s); err != nil {
			return err
		}
		if s.Bavail < s.Blocks/100 {
			return protocol.Errorf(protocol.NoRoom, "%s has %d MiB free, less than a hundredth (btrfs filesystem usage %[1]s)",
				v.MountPoint, s.Bavail*uint64(s.Bsize)>>20)
		}
	}
	return nil
}

// Prepare makes our directory and the record, and opens all that Commit needs.
func (b *subvolumes) Prepare(_ context.Context, set protocol.Set, vols []protocol.Volume) ([]string, error) {
	b.set = set
	for _, v := range vols {
		p, err := at(v)
		if err != nil {
			return nil, err
		}
		m := &member{place: p, snap: protocol.Snapshot{
			Name: v.Name + "." + set.ID, Set: set, Origin: v.Name, Armed: true, MountPoint: v.MountPoint, FSType: v.FSType, Size: v.Size,
		}}
		b.members = append(b.members, m)
		if m.omits, err = p.omits(nil); err != nil {
			return nil, err
		}
		if err := unix.Mkdirat(int(p.top.Fd()), ours, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("cannot make %s: %w", p.path(), err)
		}
		if err := p.enter(); err != nil {
			return nil, err
		}
		if _, err := p.records().Get(set.ID); err == nil {
			return nil, fmt.Errorf("%s is in the set twice", p.name())
		}
		if err := p.records().Put(set.ID, pluginmain.Record{Home: p.home(), Snapshot: m.snap}); err != nil {
			return nil, err
		}
		m.capture = newCapture(p.dir, p.top, set.ID)
	}
	return nil, nil
}

// Lock looks whether the records are still there.
func (b *subvolumes) Lock(context.Context) error {
	for _, m := range b.members {
		if _, err := m.place.records().Get(b.set.ID); err != nil {
			return protocol.Errorf(protocol.Changed, "%v", err)
		}
	}
	return nil
}

// Commit is one system call for each volume; it returns when the snapshot is on disk.
func (b *subvolumes) Commit(context.Context) error {
	for _, m := range b.members {
		if err := m.capture.do(); err != nil {
			return fmt.Errorf("cannot snapshot %s: %w", m.snap.Origin, err)
		}
	}
	return nil
}

func (b *subvolumes) Finalize(_ context.Context, f protocol.Final) ([]protocol.Snapshot, error) {
	var out []protocol.Snapshot
	for _, m := range b.members {
		m.snap.Armed, m.snap.Consistency, m.snap.Created = false, f.Consistency, f.Created
		all, err := m.place.omits(m.omits) // one that came or went meanwhile is told: it may have been there
		if err != nil {
			return nil, err
		}
		m.snap.Omits = protocol.Omitted(all)
		if err := m.place.records().Put(b.set.ID, pluginmain.Record{Home: m.place.home(), Snapshot: m.snap}); err != nil {
			return nil, err
		}
		s, err := m.place.found(b.set.ID, m.snap)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// found adds what only the filesystem knows of a snapshot: how it is mounted, or that it has gone.
func (p *place) found(key string, s protocol.Snapshot) (protocol.Snapshot, error) {
	f, err := p.subvolume(key)
	if errors.Is(err, fs.ErrNotExist) {
		if !s.Armed {
			s.Invalid = "its subvolume was removed"
		}
		return s, nil
	}
	if err != nil {
		return s, err
	}
	defer f.Close()
	id, err := subvolumeID(f)
	if err != nil {
		return s, err
	}
	if id == p.id && !s.Armed {
		s.Invalid = "a directory is where its subvolume was"
	}
	s.Options = fmt.Sprintf("subvolid=%d", id)
	return s, nil
}

func (*subvolumes) Snapshots(context.Context) ([]protocol.Snapshot, error) {
	all, err := places()
	if err != nil {
		return nil, err
	}
	defer closeAll(all)
	var out []protocol.Snapshot
	var errs []error
	for _, p := range all {
		if err := p.enter(); err != nil {
			switch {
			case errors.Is(err, fs.ErrNotExist):
			case errors.Is(err, errForeign): // who owns a subvolume must not be able to hide other ones
				fmt.Fprintln(os.Stderr, "left out:", err)
			default:
				errs = append(errs, err)
			}
			continue
		}
		records, err := p.records().All()
		errs = append(errs, err)
		for key, r := range records {
			if r.Home != p.home() {
				continue // of the subvolume that this one is a snapshot of
			}
			s, err := p.found(key, r.Snapshot)
			errs = append(errs, err)
			out = append(out, s)
		}
	}
	return out, errors.Join(errs...)
}

// with finds where a set's snapshot of an origin is, and does something there.
func with(id string, origin string, do func(p *place, r pluginmain.Record) error) error {
	all, err := places()
	if err != nil {
		return err
	}
	defer closeAll(all)
	var errs []error
	for _, p := range all {
		err := p.enter()
		var r pluginmain.Record
		if err == nil {
			r, err = p.records().Get(id)
		}
		if err != nil || r.Home != p.home() || origin != "" && r.Snapshot.Origin != origin {
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errForeign) {
				errs = append(errs, err)
			}
			continue
		}
		errs = append(errs, do(p, r))
	}
	return errors.Join(errs...)
}

// remove removes a snapshot, its record, and our directory if it is empty then.
func remove(p *place, r pluginmain.Record) error {
	id := r.Snapshot.Set.ID
	if err := destroy(p.dir, id); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("cannot remove %s/%s: %w", p.path(), id, err)
	}
	if err := p.records().Remove(id); err != nil {
		return err
	}
	if err := unix.Unlinkat(int(p.top.Fd()), ours, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return nil
}

func (*subvolumes) Abort(_ context.Context, set protocol.Set) error { return with(set.ID, "", remove) }

func (*subvolumes) Delete(_ context.Context, s protocol.Snapshot) error {
	return with(s.Set.ID, s.Origin, remove)
}

func (*subvolumes) Mark(_ context.Context, s protocol.Snapshot) error {
	return with(s.Set.ID, s.Origin, func(p *place, r pluginmain.Record) error {
		r.Snapshot.Armed = true
		return p.records().Put(s.Set.ID, r)
	})
}

// Expose names the filesystem's device: the snapshot's options say which subvolume of it to mount.
func (*subvolumes) Expose(_ context.Context, s protocol.Snapshot) (device string, err error) {
	err = with(s.Set.ID, s.Origin, func(p *place, _ pluginmain.Record) error {
		device = p.device
		return nil
	})
	if err == nil && device == "" {
		err = errors.New("no such snapshot, or its subvolume is not mounted anywhere")
	}
	return device, err
}

func (*subvolumes) Hide(context.Context, protocol.Snapshot) error { return nil }
