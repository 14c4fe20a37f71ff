package dm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// LinearTable are the parameters of a linear target: "DEVICE OFFSET".
type LinearTable struct {
	Dest   Dev
	Offset uint64 // sectors of 512 bytes
}

func (t LinearTable) String() string { return fmt.Sprintf("%s %d", t.Dest, t.Offset) }

// ParseLinearTable reads the parameters of a linear target as the kernel reports them.
func ParseLinearTable(params string) (LinearTable, error) {
	p := parser{kind: "linear table", text: params, rest: params}
	t := LinearTable{Dest: p.dev("destination device"), Offset: p.uint("offset")}
	p.end()
	if err := p.err(); err != nil {
		return LinearTable{}, err
	}
	return t, nil
}

// MaxThinID is the largest device id in a thin pool, which has 24 bits (MAX_DEV_ID in drivers/md/dm-thin.c).
const MaxThinID = 1<<24 - 1

// ThinTable are the parameters of a thin target: "POOL ID [EXTERNAL-ORIGIN]".
type ThinTable struct {
	Pool           Dev
	ID             uint32 // at most MaxThinID
	ExternalOrigin Dev    // 0 if there is none
}

func (t ThinTable) String() string {
	s := fmt.Sprintf("%s %d", t.Pool, t.ID)
	if t.ExternalOrigin != 0 {
		s += " " + t.ExternalOrigin.String()
	}
	return s
}

// ParseThinTable reads the parameters of a thin target as the kernel reports them.
func ParseThinTable(params string) (ThinTable, error) {
	p := parser{kind: "thin table", text: params, rest: params}
	t := ThinTable{Pool: p.dev("pool device")}
	id := p.uint("device id")
	if id > MaxThinID {
		p.fail("device id")
	}
	t.ID = uint32(id)
	if p.more() {
		t.ExternalOrigin = p.dev("external origin")
	}
	p.end()
	if err := p.err(); err != nil {
		return ThinTable{}, err
	}
	return t, nil
}

// ThinPoolTable are the parameters of a thin-pool target:
// "METADATA DATA BLOCK-SIZE LOW-WATER #FEATURES FEATURE...".
type ThinPoolTable struct {
	Metadata, Data Dev
	BlockSize      uint64   // sectors of 512 bytes; the unit of the pool's data figures
	LowWater       uint64   // blocks; fewer free ones raise an event
	Features       []string // "skip_block_zeroing", "ignore_discard", "no_discard_passdown", "read_only", "error_if_no_space"
}

func (t ThinPoolTable) String() string {
	s := fmt.Sprintf("%s %s %d %d %d", t.Metadata, t.Data, t.BlockSize, t.LowWater, len(t.Features))
	return strings.Join(append([]string{s}, t.Features...), " ")
}

// ErrorIfNoSpace tells whether writes fail at once when the pool is out of data space.
func (t ThinPoolTable) ErrorIfNoSpace() bool { return slices.Contains(t.Features, "error_if_no_space") }

// ParseThinPoolTable reads the parameters of a thin-pool target as the kernel reports them.
func ParseThinPoolTable(params string) (ThinPoolTable, error) {
	p := parser{kind: "thin-pool table", text: params, rest: params}
	t := ThinPoolTable{Metadata: p.dev("metadata device"), Data: p.dev("data device")}
	t.BlockSize = p.uint("block size")
	t.LowWater = p.uint("low water mark")
	if p.more() {
		t.Features = p.features()
	}
	p.end()
	if t.BlockSize == 0 {
		p.fail("block size")
	}
	if err := p.err(); err != nil {
		return ThinPoolTable{}, err
	}
	return t, nil
}

// SnapshotTable are the parameters of a snapshot or snapshot-merge target:
// "ORIGIN COW-DEVICE P|PO|N CHUNK-SIZE [#FEATURES FEATURE...]".
type SnapshotTable struct {
	Origin, COW Dev
	Store       string   // "P" persistent, "PO" persistent and telling of overflow, "N" lost with the table
	ChunkSize   uint64   // sectors of 512 bytes
	Features    []string // "discard_zeroes_cow", "discard_passdown_origin"
}

func (t SnapshotTable) String() string {
	words := []string{t.Origin.String(), t.COW.String(), t.Store, strconv.FormatUint(t.ChunkSize, 10)}
	if len(t.Features) > 0 {
		words = append(append(words, strconv.Itoa(len(t.Features))), t.Features...)
	}
	return strings.Join(words, " ")
}

var snapshotStores = []string{"P", "PO", "N", "NO"}

// ParseSnapshotTable reads the parameters of a snapshot or snapshot-merge target as the kernel reports them.
func ParseSnapshotTable(params string) (SnapshotTable, error) {
	p := parser{kind: "snapshot table", text: params, rest: params}
	t := SnapshotTable{Origin: p.dev("origin device"), COW: p.dev("COW device")}
	t.Store = snapshotStores[p.choice("kind of store", snapshotStores...)]
	t.ChunkSize = p.uint("chunk size")
	if p.more() {
		t.Features = p.features()
	}
	p.end()
	if err := p.err(); err != nil {
		return SnapshotTable{}, err
	}
	return t, nil
}

// SnapshotOriginTable are the parameters of a snapshot-origin target: "DEVICE".
type SnapshotOriginTable struct{ Dest Dev }

func (t SnapshotOriginTable) String() string { return t.Dest.String() }

// ParseSnapshotOriginTable reads the parameters of a snapshot-origin target as the kernel reports them.
func ParseSnapshotOriginTable(params string) (SnapshotOriginTable, error) {
	p := parser{kind: "snapshot-origin table", text: params, rest: params}
	t := SnapshotOriginTable{Dest: p.dev("device")}
	p.end()
	if err := p.err(); err != nil {
		return SnapshotOriginTable{}, err
	}
	return t, nil
}
