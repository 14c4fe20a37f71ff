// Package stack draws what a volume rests on: mount → filesystem → device-mapper and LVM → partition, loop or md → disks.
// A loop device does not end it: below its file comes the filesystem that the file lies on, and so on down.
//
// It decides from what Source tells and touches nothing itself. A part that cannot be read costs what lies below it: its
// node says so.
package stack

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/fsfreeze"
)

// Source is what is known of the host.
type Source struct {
	Mounts []fsfreeze.Mount
	// Stack gives a block device with those below it: fsfreeze.Stack.
	Stack func(dev uint64) (fsfreeze.Device, error)
	// Devices gives the block devices of a filesystem: fsfreeze.BlockDevices.
	Devices func(fsfreeze.Filesystem) ([]uint64, error)
	// Targets gives the target types of a device-mapper device's table, in its order.
	Targets func(dev uint64) ([]string, error)
}

const (
	// maxFiles bounds how many loop files lie one on another.
	maxFiles = 8
	// maxNodes bounds a tree.
	maxNodes = 4096
)

// Filesystem is the tree from the filesystem's first mount down.
func (s Source) Filesystem(f fsfreeze.Filesystem) api.Node {
	w := s.walker()
	n := w.mount(f, f.Point(), 0)
	if len(f.Mounts) > 1 {
		for _, m := range f.Mounts {
			n.MountPoints = append(n.MountPoints, m.Point)
		}
	}
	return n
}

// Device is the tree from a block device down.
func (s Source) Device(dev uint64) api.Node {
	w := s.walker()
	return w.number(dev, 0)
}

// Disks names the disks at the bottom of a tree, each once.
func Disks(n api.Node) []string {
	var names []string
	var walk func(api.Node)
	walk = func(n api.Node) {
		if n.Kind == api.NodeDisk {
			names = append(names, n.Name)
		}
		for _, b := range n.Below {
			walk(b)
		}
	}
	walk(n)
	slices.Sort(names)
	return slices.Compact(names)
}

// walker draws one tree. In its methods, files is how many loop files lie above.
type walker struct {
	Source
	left int
	seen map[uint64]answer // of Stack: several loop files may lie on one filesystem
}

type answer struct {
	fsfreeze.Device
	err error
}

func (s Source) walker() walker { return walker{Source: s, left: maxNodes, seen: map[uint64]answer{}} }

func (w *walker) mount(f fsfreeze.Filesystem, point string, files int) api.Node {
	below := w.filesystem(f, files)
	return api.Node{Kind: api.NodeMount, Name: point, Size: below.Size, Below: []api.Node{below}}
}

func (w *walker) filesystem(f fsfreeze.Filesystem, files int) api.Node {
	n := api.Node{Kind: api.NodeFilesystem, Name: f.Type}
	devs, err := w.Devices(f)
	if err != nil {
		n.Problem = err.Error()
	}
	for _, dev := range devs {
		n.Below = append(n.Below, w.number(dev, files))
		n.Size += n.Below[len(n.Below)-1].Size
	}
	return n
}

func (w *walker) number(dev uint64, files int) api.Node {
	a, ok := w.seen[dev]
	if !ok {
		a.Device, a.err = w.Stack(dev)
		w.seen[dev] = a
	}
	if a.err != nil {
		number := numbers(dev)
		return api.Node{Kind: api.NodeDisk, Name: number, Device: number, Problem: a.err.Error()}
	}
	return w.device(a.Device, files)
}

func (w *walker) device(d fsfreeze.Device, files int) api.Node {
	n := api.Node{Kind: api.NodeDisk, Name: d.Name, Device: numbers(d.Dev), Size: d.Size, UUID: d.UUID, BackingFile: d.Backing}
	if w.left--; w.left < 0 {
		n.Problem = fmt.Sprintf("the tree has more than %d devices", maxNodes)
		return n
	}
	switch d.Kind {
	case fsfreeze.Partition:
		n.Kind = api.NodePartition
	case fsfreeze.MD:
		n.Kind, n.Targets = api.NodeMD, []string{d.Level}
	case fsfreeze.Mapped:
		n.Kind, n.Name, n.Layer = mapped(d.DM, d.UUID)
		targets, err := w.Targets(d.Dev)
		if err != nil {
			n.Problem = err.Error()
		}
		n.Targets = once(targets)
	case fsfreeze.Loop:
		n.Kind, n.Below = api.NodeLoop, []api.Node{w.file(d.Backing, files)}
	}
	for _, b := range d.Below {
		n.Below = append(n.Below, w.device(b, files))
	}
	return n
}

// deleted ends the path of a loop device's file that has no name any more.
const deleted = " (deleted)"

func (w *walker) file(path string, files int) api.Node {
	path, gone := strings.CutSuffix(path, deleted)
	n := api.Node{Kind: api.NodeFile, Name: path}
	if gone {
		n.Problem = "the file has been deleted"
	}
	m := fsfreeze.Under(w.Mounts, path)
	if m.Point == "" {
		return n // of another mount namespace
	}
	if files == maxFiles {
		n.Problem = fmt.Sprintf("more than %d files lie one on another", maxFiles)
		return n
	}
	for _, f := range fsfreeze.Filesystems(w.Mounts) {
		if f.Dev == m.Dev {
			n.Below = append(n.Below, w.mount(f, m.Point, files+1))
		}
	}
	return n
}

// lvmUUID begins the device-mapper uuid of every device of LVM. After it come the uuids of VG and LV, and for a hidden
// device a hyphen and its layer.
const lvmUUID = "LVM-"

// mapped names a device of device-mapper.
func mapped(name, uuid string) (kind api.NodeKind, label, layer string) {
	rest, isLVM := strings.CutPrefix(uuid, lvmUUID)
	vg, lv, _, ok := dm.SplitLVMName(name)
	if !isLVM || !ok {
		return api.NodeDeviceMapper, name, ""
	}
	_, layer, _ = strings.Cut(rest, "-")
	return api.NodeLVM, vg + "/" + lv, layer
}

// once leaves out what came before.
func once(words []string) []string {
	var out []string
	for _, x := range words {
		if !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}

func numbers(dev uint64) string { return fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)) }
