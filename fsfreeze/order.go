package fsfreeze

import "slices"

// Layer is a filesystem to be frozen and the filesystems (by Dev) that hold the files of loop devices below it.
type Layer struct {
	FS    Filesystem
	Holds []uint64
}

// Layers finds, for each filesystem, on which other filesystems the stack below it rests: a loop device's backing file
// lies on one. stack gives the devices below a filesystem; a filesystem without a stack rests on nothing.
func Layers(set []Filesystem, mounts []Mount, stack func(dev uint64) (Device, error)) ([]Layer, error) {
	layers := make([]Layer, len(set))
	for i, f := range set {
		d, err := stack(f.Dev)
		if err != nil {
			return nil, err
		}
		layers[i] = Layer{FS: f, Holds: rests(d, mounts, stack, maxDepth)}
	}
	return layers, nil
}

func rests(d Device, mounts []Mount, stack func(uint64) (Device, error), depth int) []uint64 {
	var on []uint64
	d.Walk(func(x Device) {
		if x.Backing == "" || depth == 0 {
			return
		}
		m := Under(mounts, x.Backing)
		on = append(on, m.Dev)
		if below, err := stack(m.Dev); err == nil { // tmpfs and the like have no devices: the end of the chain
			on = append(on, rests(below, mounts, stack, depth-1)...)
		}
	})
	return on
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
