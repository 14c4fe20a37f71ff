package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm/provider/plugin/pluginmain"
	"github.com/fermata-project/fermata/fsfreeze"
)

// ours is the directory at the top of a subvolume that holds its snapshots and their records.
const ours = ".fermata"

// errForeign: what lies there is nothing that we made.
var errForeign = errors.New("not root's alone")

// place is a mounted subvolume, open.
type place struct {
	mount  fsfreeze.Mount
	top    *os.File
	dir    *os.File // our directory at the top, once enter has found it
	fsid   string
	device string
	id     uint64 // of the subvolume
}

// open opens the subvolume at a mount, if its top is what is mounted there.
func open(m fsfreeze.Mount) (*place, error) {
	f, err := os.OpenFile(m.Point, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	p := &place{mount: m, top: f}
	var s unix.Stat_t
	var kind unix.Statfs_t
	err = errors.Join(unix.Fstat(int(f.Fd()), &s), unix.Fstatfs(int(f.Fd()), &kind))
	switch {
	case err != nil:
	case kind.Type != unix.BTRFS_SUPER_MAGIC:
		err = errors.New("not btrfs")
	case s.Ino != firstFreeObject:
		err = fmt.Errorf("%s is a directory of a subvolume, not its top", m.Point)
	default:
		if p.fsid, p.device, err = filesystem(f); err == nil {
			p.id, err = subvolumeID(f)
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return p, nil
}

func (p *place) close() {
	p.top.Close()
	if p.dir != nil {
		p.dir.Close()
	}
}

// home says which subvolume of which filesystem a record belongs to: a snapshot contains the records that were there when
// it was made, and is not their home.
func (p *place) home() string { return fmt.Sprintf("%s/%d", p.fsid, p.id) }

// name is the volume's: the beginning of the filesystem's UUID, and the subvolume's path.
func (p *place) name() string { return p.fsid[:8] + ":" + p.mount.Root }

func (p *place) path() string { return filepath.Join(p.mount.Point, ours) }

// records are read and written through the open directory: who owns the subvolume's top can put another in its place.
func (p *place) records() pluginmain.Records {
	return pluginmain.Records{Dir: fmt.Sprintf("/proc/self/fd/%d", p.dir.Fd())}
}

// enter opens our directory; the error is fs.ErrNotExist if there is none. One that others could have made is not ours.
func (p *place) enter() error {
	fd, err := unix.Openat(int(p.top.Fd()), ours, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: p.path(), Err: err}
	}
	p.dir = os.NewFile(uintptr(fd), p.path())
	var s unix.Stat_t
	if err := unix.Fstat(fd, &s); err != nil {
		return err
	}
	if s.Uid != 0 || s.Mode&0o077 != 0 {
		return fmt.Errorf("%s: %w (chown root:root %[1]s; chmod 0700 %[1]s)", p.path(), errForeign)
	}
	return nil
}

// omits adds to what a snapshot of this subvolume lacks: the subvolumes that are nested in it, but for our snapshots.
func (p *place) omits(before []string) ([]string, error) {
	paths, err := nested(p.top)
	if err != nil {
		return nil, fmt.Errorf("cannot list the subvolumes in %s: %w", p.mount.Point, err)
	}
	paths = slices.DeleteFunc(paths, func(path string) bool { return strings.HasPrefix(path, ours+"/") })
	paths = append(paths, before...)
	slices.Sort(paths)
	return slices.Compact(paths), nil
}

// subvolume opens a snapshot.
func (p *place) subvolume(id string) (*os.File, error) {
	fd, err := unix.Openat(int(p.dir.Fd()), id, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(p.path(), id), Err: err}
	}
	return os.NewFile(uintptr(fd), id), nil
}

// places opens every mounted subvolume once.
func places() (all []*place, err error) {
	mounts, err := fsfreeze.Mounts()
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, m := range mounts {
		if m.FSType != "btrfs" {
			continue
		}
		p, err := open(m)
		if err != nil {
			continue // covered by another mount, or a directory: another mount of it may do
		}
		if seen[p.home()] {
			p.close()
			continue
		}
		seen[p.home()] = true
		all = append(all, p)
	}
	return all, nil
}

func closeAll(all []*place) {
	for _, p := range all {
		p.close()
	}
}
