package dm

import (
	"fmt"
	"strings"
)

// PoolMode is what a thin pool can still do.
type PoolMode uint8

const (
	PoolReadWrite      PoolMode = iota // "rw"
	PoolReadOnly                       // "ro": out of metadata space, or damaged: nothing can be mapped, no message is taken
	PoolOutOfDataSpace                 // writes to unmapped blocks are queued or fail
	PoolFail                           // all I/O fails; every other field of the status is zero
	PoolError                          // the status could not be taken; every other field is zero
)

var poolModes = [...]string{"rw", "ro", "out_of_data_space", "fail", "error"}

func (m PoolMode) String() string {
	if int(m) < len(poolModes) {
		return poolModes[m]
	}
	return fmt.Sprintf("mode %d", uint8(m))
}

// ThinPoolStatus is what a thin pool reports (pool_status in drivers/md/dm-thin.c).
type ThinPoolStatus struct {
	TransactionID        uint64
	UsedMetadata         uint64 // blocks of 4 KiB
	TotalMetadata        uint64 // blocks of 4 KiB
	UsedData             uint64 // blocks of the pool's block size, which stands in its table
	TotalData            uint64 // blocks of the pool's block size
	HeldRoot             uint64 // metadata block of the snapshot that reserve_metadata_snap holds; 0 if there is none
	Mode                 PoolMode
	Discard              bool   // discards of thin volumes are accepted
	DiscardPassdown      bool   // and handed on to the data device
	QueueIfNoSpace       bool   // out of data space, writes wait (60 s unless configured) before they fail
	NeedsCheck           bool   // metadata have to be checked offline before the pool can be written to
	MetadataLowWatermark uint64 // blocks of 4 KiB; fewer free ones raise an event; 0 before Linux 5.0
}

// ParseThinPool reads the status of a thin-pool target.
func ParseThinPool(params string) (ThinPoolStatus, error) {
	var s ThinPoolStatus
	switch strings.TrimSpace(params) {
	case "Fail":
		return ThinPoolStatus{Mode: PoolFail}, nil
	case "Error":
		return ThinPoolStatus{Mode: PoolError}, nil
	}
	p := parser{kind: "thin-pool status", text: params, rest: params}
	s.TransactionID = p.uint("transaction id")
	s.UsedMetadata, s.TotalMetadata = p.ratio("metadata blocks")
	s.UsedData, s.TotalData = p.ratio("data blocks")
	s.HeldRoot, _ = p.uintOrDash("held root")
	s.Mode = PoolMode(p.choice("mode", "rw", "ro", "out_of_data_space"))
	switch p.choice("discard mode", "discard_passdown", "no_discard_passdown", "ignore_discard") {
	case 0:
		s.Discard, s.DiscardPassdown = true, true
	case 1:
		s.Discard = true
	}
	s.QueueIfNoSpace = p.choice("no-space mode", "queue_if_no_space", "error_if_no_space") == 0
	if p.more() {
		s.NeedsCheck = p.choice("check flag", "-", "needs_check") == 1
	}
	if p.more() {
		s.MetadataLowWatermark = p.uint("metadata low watermark")
	}
	// Later kernels may report more.
	if err := p.err(); err != nil {
		return ThinPoolStatus{}, err
	}
	return s, nil
}

// ThinStatus is what a thin volume reports (thin_status in drivers/md/dm-thin.c).
type ThinStatus struct {
	Mapped        uint64 // sectors of 512 bytes that have their own or shared blocks
	HighestMapped uint64 // last mapped sector; only if HasMapped
	HasMapped     bool
	NoDevice      bool // "-": the volume's metadata are not open
	Fail          bool // its pool has failed; all I/O fails
	Error         bool // the status could not be taken
}

// ParseThin reads the status of a thin target.
func ParseThin(params string) (ThinStatus, error) {
	switch strings.TrimSpace(params) {
	case "Fail":
		return ThinStatus{Fail: true}, nil
	case "Error":
		return ThinStatus{Error: true}, nil
	case "-":
		return ThinStatus{NoDevice: true}, nil
	}
	var s ThinStatus
	p := parser{kind: "thin status", text: params, rest: params}
	s.Mapped = p.uint("mapped sectors")
	s.HighestMapped, s.HasMapped = p.uintOrDash("highest mapped sector")
	if err := p.err(); err != nil {
		return ThinStatus{}, err
	}
	return s, nil
}
