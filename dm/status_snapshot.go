package dm

import "strings"

// SnapshotStatus is what a snapshot or snapshot-merge target reports (snapshot_status in drivers/md/dm-snap.c). Of the
// four bad states at most one is set, and then the numbers are zero.
type SnapshotStatus struct {
	Used        uint64 // sectors of 512 bytes of the COW device that are in use, metadata included
	Total       uint64 // sectors of 512 bytes of the COW device
	Metadata    uint64 // sectors of 512 bytes of Used that hold metadata; equal to Used when nothing was copied, or all was merged
	Invalid     bool   // the COW device was full or broke: the snapshot is lost
	Overflow    bool   // the COW device is full, and the snapshot was created to tell userspace so ("PO")
	MergeFailed bool
	Unknown     bool // the kind of exception store cannot tell
}

// ParseSnapshot reads the status of a snapshot or snapshot-merge target.
func ParseSnapshot(params string) (SnapshotStatus, error) {
	switch strings.TrimSpace(params) {
	case "Invalid":
		return SnapshotStatus{Invalid: true}, nil
	case "Overflow":
		return SnapshotStatus{Overflow: true}, nil
	case "Merge failed":
		return SnapshotStatus{MergeFailed: true}, nil
	case "Unknown":
		return SnapshotStatus{Unknown: true}, nil
	}
	var s SnapshotStatus
	p := parser{kind: "snapshot status", text: params, rest: params}
	s.Used, s.Total = p.ratio("COW sectors")
	s.Metadata = p.uint("metadata sectors")
	if err := p.err(); err != nil {
		return SnapshotStatus{}, err
	}
	return s, nil
}

// SnapshotOriginStatus is what a snapshot-origin target reports: nothing.
type SnapshotOriginStatus struct{}

// ParseSnapshotOrigin checks that the status of a snapshot-origin target is empty.
func ParseSnapshotOrigin(params string) (SnapshotOriginStatus, error) {
	p := parser{kind: "snapshot-origin status", text: params, rest: params}
	p.end()
	return SnapshotOriginStatus{}, p.err()
}

// LinearStatus is what a linear target reports: nothing.
type LinearStatus struct{}

// ParseLinear checks that the status of a linear target is empty.
func ParseLinear(params string) (LinearStatus, error) {
	p := parser{kind: "linear status", text: params, rest: params}
	p.end()
	return LinearStatus{}, p.err()
}
