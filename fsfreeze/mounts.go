package fsfreeze

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Mount is one line of the mount table (proc_pid_mountinfo(5)).
type Mount struct {
	ID       int
	Dev      uint64 // of the filesystem; 0:N for btrfs and everything without one block device
	Point    string
	Root     string // the directory of the filesystem that is mounted
	Source   string
	FSType   string
	ReadOnly bool     // the superblock is read-only
	Options  []string // of the superblock
	// Devices are the block devices of a filesystem whose Dev is none: of a btrfs. Unknown says why they are not known.
	Devices []uint64
	Unknown error
}

// Filesystem is one superblock with all its mounts, those that show its root first.
type Filesystem struct {
	Dev      uint64
	Type     string
	Source   string
	ReadOnly bool
	Options  []string
	Mounts   []Mount
	Devices  []uint64 // see Mount
	Unknown  error
}

// Option is the value of a superblock option "name=value"; ok is false if it is not set.
func (f Filesystem) Option(name string) (value string, ok bool) {
	for _, o := range f.Options {
		if v, found := strings.CutPrefix(o, name+"="); found {
			return v, true
		}
	}
	return "", false
}

// IsRoot reports whether the filesystem is mounted at /.
func (f Filesystem) IsRoot() bool {
	return slices.ContainsFunc(f.Mounts, func(m Mount) bool { return m.Point == "/" })
}

// Mounts reads the mount table of this mount namespace. A later line covers an earlier one at the same point.
func Mounts() ([]Mount, error) {
	mounts, err := MountTable()
	if err != nil {
		return nil, err
	}
	findDevices(mounts, btrfsDevices)
	return mounts, nil
}

// MountTable is Mounts without the devices of a btrfs: it opens no filesystem, so that it cannot wait for a suspended one.
func MountTable() ([]Mount, error) {
	infos, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("cannot read the mount table: %w", err)
	}
	mounts := make([]Mount, len(infos))
	for i, m := range infos {
		options := strings.Split(m.VFSOptions, ",")
		mounts[i] = Mount{
			ID: m.ID, Dev: unix.Mkdev(uint32(m.Major), uint32(m.Minor)), Point: m.Mountpoint, Root: m.Root,
			Source: m.Source, FSType: m.FSType, Options: options, ReadOnly: slices.Contains(options, "ro"),
		}
	}
	return mounts, nil
}

// Filesystems groups mounts by superblock, in the order of the table.
func Filesystems(mounts []Mount) []Filesystem {
	index := map[uint64]int{}
	var out []Filesystem
	for _, m := range mounts {
		i, ok := index[m.Dev]
		if !ok {
			i = len(out)
			index[m.Dev] = i
			out = append(out, Filesystem{Dev: m.Dev, Type: m.FSType, Source: m.Source, ReadOnly: m.ReadOnly, Options: m.Options, Devices: m.Devices, Unknown: m.Unknown})
		}
		out[i].Mounts = append(out[i].Mounts, m)
	}
	for _, f := range out {
		slices.SortStableFunc(f.Mounts, func(a, b Mount) int { return len(a.Root) - len(b.Root) })
	}
	return out
}

// At finds the mount that a path names: the last one mounted there.
func At(mounts []Mount, path string) (Mount, bool) {
	for _, m := range slices.Backward(mounts) {
		if m.Point == path {
			return m, true
		}
	}
	return Mount{}, false
}

// Under finds the mount that a path lies on: the longest mount point above it, for messages.
func Under(mounts []Mount, path string) (best Mount) {
	for _, m := range mounts {
		if len(m.Point) >= len(best.Point) && (m.Point == "/" || path == m.Point || strings.HasPrefix(path, m.Point+"/")) {
			best = m
		}
	}
	return best
}
