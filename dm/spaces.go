package dm

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"
)

// Space is a device that fills up: a thin pool, or the snapshot of a volume with its copy-on-write area.
type Space struct {
	Device string // its name in /dev/mapper
	UUID   string
	Dev    Dev
	Type   string // of the target: thin-pool or snapshot
	// Data of a pool, or the copy-on-write area. The size is 0 where nothing can be told.
	Data Fill
	// Metadata of a pool; a snapshot's are part of its area.
	Metadata Fill
	// Mode of a pool: rw, ro, out_of_data_space, fail, error; of a snapshot: rw, invalid, overflow, unknown.
	Mode       string
	NeedsCheck bool // of a pool
}

// Fill is how much of something is used, in bytes.
type Fill struct{ Used, Size uint64 }

// Spaces finds the devices that fill up, and asks them how full they are, without a flush. It remembers the types of devices
// between its calls, so that a look at one of a thousand volumes costs one ioctl. It serves one goroutine at a time.
type Spaces struct {
	control spacesControl
	blocks  map[Dev]uint64 // bytes in a block of data, of those that fill up: 512 for a snapshot
	buf     []byte         // of all looks: they go on as long as the host runs
}

// spacesControl is what Spaces needs of a Control.
type spacesControl interface {
	List() ([]ListEntry, error)
	tableStatusIn(own []byte, q request, room int) ([]Target, Info, error)
}

// spaceRoom is more than the status of a thin pool or a snapshot takes: the kernel copies the whole buffer.
const spaceRoom = 1 << 10

// NewSpaces looks through control.
func NewSpaces(control *Control) *Spaces {
	return &Spaces{control: control, buf: make([]byte, headSize+roomDefault)}
}

// All looks at all devices anew. Unseen are those that could not be looked at, whatever they are; if there is no list, all that the
// last call found. The error joins why; a device that has just gone is none.
func (s *Spaces) All() (seen []Space, unseen []Dev, err error) {
	list, err := s.control.List()
	if err != nil {
		return nil, slices.Collect(maps.Keys(s.blocks)), err
	}
	before := s.blocks
	s.blocks = map[Dev]uint64{}
	var errs []error
	for _, e := range list {
		targets, _, err := s.control.tableStatusIn(s.buf, tableRequest(ByDev(e.Dev), 0), spaceRoom)
		if errors.Is(err, unix.ENXIO) {
			continue
		}
		block, err := fills(targets, err)
		if err != nil {
			errs, unseen = append(errs, fmt.Errorf("cannot read the table of %s: %w", e.Name, err)), append(unseen, e.Dev)
			block = before[e.Dev]
		}
		if block > 0 {
			s.blocks[e.Dev] = block
		}
		if block == 0 || err != nil {
			continue
		}
		space, err := s.One(e.Dev)
		if errors.Is(err, unix.ENXIO) {
			continue
		}
		if err != nil {
			errs, unseen = append(errs, err), append(unseen, e.Dev)
			continue
		}
		seen = append(seen, space)
	}
	return seen, unseen, errors.Join(errs...)
}

// fills is how many bytes a block of the target's data has; 0 if it does not fill up.
func fills(targets []Target, err error) (uint64, error) {
	if err != nil || len(targets) != 1 {
		return 0, err
	}
	switch targets[0].Type {
	case "thin-pool":
		t, err := ParseThinPoolTable(targets[0].Params)
		return t.BlockSize * 512, err
	case "snapshot":
		return 512, nil
	}
	return 0, nil
}

// One looks at one of the devices that the last All found. The error is ENXIO if it is gone, or is something else by now.
func (s *Spaces) One(dev Dev) (Space, error) {
	targets, info, err := s.control.tableStatusIn(s.buf, statusRequest(ByDev(dev), StatusNoFlush), spaceRoom)
	if err != nil {
		return Space{}, err
	}
	if block := s.blocks[dev]; block > 0 && len(targets) == 1 {
		space := Space{Device: info.Name, UUID: info.UUID, Dev: dev, Type: targets[0].Type}
		switch targets[0].Type {
		case "thin-pool":
			return space.pool(targets[0].Params, block)
		case "snapshot":
			return space.snapshot(targets[0].Params)
		}
	}
	return Space{}, &Error{Op: "take status of", Device: info.Name, Errno: unix.ENXIO}
}

func (s Space) pool(params string, block uint64) (Space, error) {
	p, err := ParseThinPool(params)
	s.Mode, s.NeedsCheck = p.Mode.String(), p.NeedsCheck
	s.Data = Fill{p.UsedData * block, p.TotalData * block}
	s.Metadata = Fill{p.UsedMetadata * 4096, p.TotalMetadata * 4096}
	return s, err
}

func (s Space) snapshot(params string) (Space, error) {
	p, err := ParseSnapshot(params)
	s.Data = Fill{p.Used * 512, p.Total * 512}
	switch {
	case p.Invalid:
		s.Mode = "invalid"
	case p.Overflow:
		s.Mode = "overflow"
	case p.Unknown:
		s.Mode = "unknown"
	default:
		s.Mode = PoolReadWrite.String()
	}
	return s, err
}
