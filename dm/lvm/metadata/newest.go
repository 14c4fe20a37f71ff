package metadata

import (
	"errors"
	"fmt"
	"io"

	"github.com/fermata-project/fermata/dm"
)

// Disk is an open disk: Device.
type Disk interface {
	io.ReaderAt
	io.Closer
}

// Newest reads a volume group from its physical volumes, and a text only if it changed since the last time: to look again
// costs a few KiB. It serves one goroutine at a time.
type Newest struct {
	open   func(dm.Dev) (Disk, error)
	wanted func(tag string) bool
	known  map[area]copied
}

// area is a metadata area.
type area struct {
	dev dm.Dev
	at  uint64
}

// copied is what an area had.
type copied struct {
	text  Text
	group Group
}

// NewNewest makes one that opens disks by open: Open. Of tags it keeps those that are wanted; nil: none.
func NewNewest(open func(dm.Dev) (Disk, error), wanted func(tag string) bool) *Newest {
	return &Newest{open: open, wanted: wanted, known: map[area]copied{}}
}

// Read reads the group with a UUID (without hyphens) from its disks. A disk that has no metadata, or an old one, or cannot be
// read, does not matter if another one does for it.
func (n *Newest) Read(uuid string, disks []dm.Dev) (newest Group, err error) {
	var errs []error
	for _, dev := range disks {
		groups, err := n.disk(dev)
		if err != nil && !errors.Is(err, ErrNone) {
			errs = append(errs, fmt.Errorf("%v: %w", dev, err))
		}
		for _, g := range groups {
			if g.Compact() == uuid && g.Seqno >= newest.Seqno {
				newest = g
			}
		}
	}
	if newest.UUID != "" {
		return newest, nil
	}
	if len(errs) == 0 {
		errs = append(errs, ErrNone)
	}
	return Group{}, errors.Join(errs...)
}

// disk reads what one disk has: each area may have another state of it.
func (n *Newest) disk(dev dm.Dev) (groups []Group, err error) {
	d, err := n.open(dev)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	texts, err := Find(d)
	if err != nil {
		return nil, err
	}
	for _, t := range texts {
		at := area{dev, t.area}
		if was, ok := n.known[at]; ok && was.text == t {
			groups = append(groups, was.group)
			continue
		}
		g, textErr := t.Group(d, n.wanted)
		if textErr != nil {
			err = errors.Join(err, textErr)
			continue
		}
		n.known[at] = copied{t, g}
		groups = append(groups, g)
	}
	return groups, err
}
