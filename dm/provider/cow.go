package provider

import "fmt"

// COW says how large the copy-on-write area of a snapshot is to be.
type COW interface {
	// Of is the size in bytes, for a volume of size bytes of which used are in use.
	Of(size, used uint64) uint64
	String() string
}

// How dm-snapshot lays out its exception store (Documentation/admin-guide/device-mapper/snapshot.rst): a header of one
// chunk; then areas, each a chunk of metadata with 16 bytes for each chunk of data that follows it. An area is laid out as
// soon as the one before it is full.
const (
	cowChunk  = 4 << 10 // LVM's default, and the least
	cowArea   = cowChunk / 16
	cowHeader = 1
	cowMin    = (cowHeader + 2) * cowChunk // an area with one chunk of data
)

// cowMax is what an area needs that can never overflow, because it has room for every chunk of the volume.
func cowMax(size uint64) uint64 {
	chunks := ceilDiv(size, cowChunk)
	return (cowHeader + chunks/cowArea + 1 + chunks) * cowChunk
}

// cowSize is how large a volume's copy-on-write area will be: what the volume's own policy says, or else what byDefault
// says; between what is needed for one chunk and what is needed for all. It comes in whole chunks: LVM takes no broken
// sectors.
func cowSize(v Volume, byDefault COW) uint64 {
	want := v.COW
	if want == 0 {
		used := v.Used
		if used == 0 {
			used = v.Size
		}
		want = byDefault.Of(v.Size, used)
	}
	return roundUp(min(max(want, cowMin), cowMax(v.Size)), cowChunk)
}

// roundUp is n as a whole number of units.
func roundUp(n, unit uint64) uint64 {
	if unit == 0 {
		return n
	}
	return ceilDiv(n, unit) * unit
}

// ceilDiv divides, rounding up, without overflowing.
func ceilDiv(n, by uint64) uint64 {
	q := n / by
	if n%by > 0 {
		q++
	}
	return q
}

// mebibytes is a size for people: extents are seldom smaller.
func mebibytes(n uint64) string { return fmt.Sprintf("%d MiB", ceilDiv(n, 1<<20)) }
