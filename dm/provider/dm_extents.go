package provider

import (
	"fmt"
	"slices"

	"github.com/fermata-project/fermata/dm"
)

// Areas on a device are made of extents, in runs of one or several. Nobody keeps a list of them: the tables of the areas'
// devices, which the kernel has, tell which are taken.

// extent is in bytes. Every device's physical sectors and stripes fit into it.
const extent = 1 << 20

// run is so many extents from start on.
type run struct{ start, n uint64 }

func (r run) end() uint64 { return r.start + r.n }

// extents is how many of them so many bytes need.
func extents(bytes uint64) uint64 { return ceilDiv(bytes, extent) }

func total(runs []run) (n uint64) {
	for _, r := range runs {
		n += r.n
	}
	return n
}

// gaps are the runs inside all that are not taken, in order.
func gaps(all run, taken []run) []run {
	taken = slices.SortedFunc(slices.Values(taken), func(a, b run) int {
		if a.start < b.start {
			return -1
		}
		return 1
	})
	var out []run
	at := all.start
	for _, t := range append(taken, run{start: all.end()}) {
		if end := min(t.start, all.end()); end > at {
			out = append(out, run{at, end - at})
		}
		at = max(at, t.end())
	}
	return out
}

// fit takes n extents from the first gap that has as many; if none has, from as many gaps as it needs, in order. It
// returns nil if all of them together have fewer.
func fit(gaps []run, n uint64) []run {
	if total(gaps) < n {
		return nil
	}
	for _, g := range gaps {
		if g.n >= n {
			return []run{{g.start, n}}
		}
	}
	var out []run
	for _, g := range gaps {
		part := min(g.n, n)
		if n -= part; part > 0 {
			out = append(out, run{g.start, part})
		}
	}
	return out
}

// carve is the table of an area of so many bytes on runs that have room for it. Only the last may have more.
func carve(device dm.Dev, runs []run, size uint64) []dm.Target {
	var table []dm.Target
	at := uint64(0)
	for _, r := range runs {
		n := min(r.n*extent, size-at)
		table = append(table, dm.Target{
			Start: at / 512, Length: n / 512, Type: "linear", Params: dm.LinearTable{Dest: device, Offset: r.start * (extent / 512)}.String(),
		})
		at += n
	}
	return table
}

// carved are the runs that a table maps on a device; whole tells whether it maps nothing else.
func carved(device dm.Dev, table []dm.Target) (runs []run, whole bool, err error) {
	whole = true
	for _, t := range table {
		if t.Type != "linear" {
			return nil, false, fmt.Errorf("%w: a copy-on-write area has got a table of type %s", ErrChanged, t.Type)
		}
		l, err := dm.ParseLinearTable(t.Params)
		if err != nil {
			return nil, false, err
		}
		if l.Dest != device {
			whole = false
			continue
		}
		start := l.Offset / (extent / 512)
		runs = append(runs, run{start, ceilDiv(l.Offset+t.Length, extent/512) - start})
	}
	return runs, whole, nil
}
