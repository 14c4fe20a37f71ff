package fsfreeze

import (
	"slices"
	"strings"
)

// Layer is a filesystem to be frozen and the filesystems (by Dev) that hold the files of loop devices below it.
type Layer struct {
	FS    Filesystem
	Holds []uint64
}

// Layers finds, for each filesystem, on which other filesystems the stack below it rests: a loop device's backing file
// lies on one. stack gives the devices below a filesystem's.
func Layers(set []Filesystem, mounts []Mount, stack func(dev uint64) (Device, error)) ([]Layer, error) {
	layers := make([]Layer, len(set))
	for i, f := range set {
		dev, err := f.Device()
		if err != nil {
			return nil, err
		}
		d, err := stack(dev)
		if err != nil {
			return nil, err
		}
		layers[i] = Layer{FS: f, Holds: Below(d, mounts, stack).Filesystems}
	}
	return layers, nil
}

// Ground is what a block device rests on: the devices below it, and the filesystems (by Dev) that hold the files of
// loop devices among them, with the devices below those in turn.
type Ground struct {
	Devices, Filesystems []uint64
	// Leaves are the ends of the device's own stack: all of its content lies there.
	Leaves []Leaf
}

// Leaf is a device with none below it. Of a loop device, File is the backing file and On (a Dev) the filesystem that it
// lies on; a file that was deleted while in use lies nowhere.
type Leaf struct {
	Name, File string
	On         uint64
}

// Below finds what a device rests on.
func Below(d Device, mounts []Mount, stack func(uint64) (Device, error)) Ground {
	var g Ground
	g.add(d, mounts, stack, maxDepth)
	d.Walk(func(x Device) {
		if len(x.Below) > 0 {
			return
		}
		l := Leaf{Name: x.Name, File: x.Backing}
		if x.Backing != "" && !strings.HasSuffix(x.Backing, " (deleted)") { // d_path() of the kernel
			l.On = Under(mounts, x.Backing).Dev
		}
		g.Leaves = append(g.Leaves, l)
	})
	return g
}

func (g *Ground) add(top Device, mounts []Mount, stack func(uint64) (Device, error), depth int) {
	filesystems := Filesystems(mounts)
	top.Walk(func(x Device) {
		if x.Dev != top.Dev {
			g.Devices = append(g.Devices, x.Dev)
		}
		if x.Backing == "" || depth == 0 {
			return
		}
		dev := Under(mounts, x.Backing).Dev
		g.Filesystems = append(g.Filesystems, dev)
		i := slices.IndexFunc(filesystems, func(f Filesystem) bool { return f.Dev == dev })
		if i < 0 {
			return
		}
		below, err := filesystems[i].Device()
		if err != nil { // tmpfs and the like have no devices: the end of the chain
			return
		}
		if d, err := stack(below); err == nil {
			g.Devices = append(g.Devices, below)
			g.add(d, mounts, stack, depth-1)
		}
	})
}

// Order sorts filesystems into levels: level 0 is frozen first. Those of one level are independent and are frozen at the
// same time. A filesystem on a loop device comes before the one that holds its file; the root filesystem comes last, on
// a level of its own unless it rests on another one. Thawing goes through the levels backwards.
//
//	/mnt/image (loop file on /srv), /srv, /home, /   →   [/mnt/image /home] [/srv] [/]
func Order(layers []Layer) [][]Filesystem {
	depth := make(map[uint64]int, len(layers)) // how many levels come before
	for range layers {                         // at most as many rounds as filesystems; a cycle cannot exist
		for _, l := range layers {
			for _, below := range l.Holds {
				if below != l.FS.Dev {
					depth[below] = max(depth[below], depth[l.FS.Dev]+1)
				}
			}
		}
	}
	last := 0
	for _, l := range layers {
		last = max(last, depth[l.FS.Dev])
	}
	for _, l := range layers {
		if l.FS.IsRoot() && !restsOnAny(l, layers) {
			depth[l.FS.Dev] = last + 1
		}
	}
	var levels [][]Filesystem
	for _, l := range layers {
		for len(levels) <= depth[l.FS.Dev] {
			levels = append(levels, nil)
		}
		levels[depth[l.FS.Dev]] = append(levels[depth[l.FS.Dev]], l.FS)
	}
	return slices.DeleteFunc(levels, func(l []Filesystem) bool { return len(l) == 0 })
}

func restsOnAny(l Layer, set []Layer) bool {
	return slices.ContainsFunc(set, func(o Layer) bool { return o.FS.Dev != l.FS.Dev && slices.Contains(l.Holds, o.FS.Dev) })
}
