package dm

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Target is one line of a table: the device's sectors from Start on, Length of them, are mapped by a target of a type.
type Target struct {
	Start, Length uint64 // sectors of 512 bytes
	Type          string // "linear", "thin"; shorter than 16 bytes
	Params        string // in a table: its arguments; in a status: what the target reports
}

// String is the form that dmsetup uses.
func (t Target) String() string {
	return strings.TrimRight(fmt.Sprintf("%d %d %s %s", t.Start, t.Length, t.Type, t.Params), " ")
}

// maxTargets bounds a table; LVM makes one target a segment, so real ones have a few.
const maxTargets = 1 << 16

// Load puts a table into the device's inactive slot, replacing what was there. Resume makes it live.
func (c *Control) Load(ref Ref, table []Target, readOnly bool) error {
	payload, err := encodeTable(table)
	if err != nil {
		return fmt.Errorf("cannot load a table into %s: %w", ref, err)
	}
	q := request{op: "load a table into", cmd: unix.DM_TABLE_LOAD, ref: ref, targets: uint32(len(table)), payload: payload}
	if readOnly {
		q.flags = unix.DM_READONLY_FLAG
	}
	_, err = c.doRef(&q, 0)
	return err
}

// Clear drops the inactive table; it is no error if there is none.
func (c *Control) Clear(ref Ref) error {
	q := request{op: "clear the inactive table of", cmd: unix.DM_TABLE_CLEAR, ref: ref}
	_, err := c.doRef(&q, 0)
	return err
}

// StatusFlags say how a status is taken.
type StatusFlags uint32

// StatusNoFlush keeps a thin pool from committing its metadata to answer; whoever polls should always pass it.
const StatusNoFlush StatusFlags = unix.DM_NOFLUSH_FLAG

// Status asks each target of the live table how it is. The answers stand in Params; ParseThinPool and its siblings read
// them.
func (c *Control) Status(ref Ref, flags StatusFlags) ([]Target, Info, error) {
	return c.tableStatus(statusRequest(ref, flags))
}

// Table gives the live table; empty if there is none.
func (c *Control) Table(ref Ref) ([]Target, Info, error) {
	return c.tableStatus(tableRequest(ref, 0))
}

// TableInactive gives the table that the next Resume makes live; empty if there is none.
func (c *Control) TableInactive(ref Ref) ([]Target, Info, error) {
	return c.tableStatus(tableRequest(ref, unix.DM_QUERY_INACTIVE_TABLE_FLAG))
}

func statusRequest(ref Ref, flags StatusFlags) request {
	return request{op: "take status of", cmd: unix.DM_TABLE_STATUS, ref: ref, flags: uint32(flags & StatusNoFlush)}
}

func tableRequest(ref Ref, flags uint32) request {
	return request{op: "read table of", cmd: unix.DM_TABLE_STATUS, ref: ref,
		flags: flags | unix.DM_STATUS_TABLE_FLAG | unix.DM_NOFLUSH_FLAG}
}

func (c *Control) tableStatus(q request) ([]Target, Info, error) {
	return c.tableStatusIn(nil, q, roomDefault)
}

// tableStatusIn is tableStatus in a buffer of the caller's, with room bytes for the answer to begin with.
func (c *Control) tableStatusIn(own []byte, q request, room int) ([]Target, Info, error) {
	if err := q.ref.check(); err != nil {
		return nil, Info{}, fmt.Errorf("cannot %s a device: %w", q.op, err)
	}
	buf, err := c.doIn(own, &q, room)
	if err != nil {
		return nil, Info{}, err
	}
	info := infoOf(head(buf))
	targets, err := decodeTable(answer(buf), head(buf).Target_count)
	if err != nil {
		return nil, Info{}, fmt.Errorf("cannot %s %s: %w", q.op, q.ref, err)
	}
	if q.flags&unix.DM_QUERY_INACTIVE_TABLE_FLAG != 0 && !info.InactiveTable {
		targets = nil
	}
	return targets, info, nil
}

// specSize is that of struct dm_target_spec: start, length (64 bits), status, next (32 bits), type (16 bytes).
const specSize = unix.SizeofDmTargetSpec

// encodeTable lays out specs, each followed by its parameters. On the way in, next counts from the spec itself.
func encodeTable(table []Target) ([]byte, error) {
	if len(table) == 0 || len(table) > maxTargets {
		return nil, fmt.Errorf("a table has 1 to %d targets, not %d", maxTargets, len(table))
	}
	var out []byte
	for _, t := range table {
		if t.Type == "" || len(t.Type) >= unix.DM_MAX_TYPE_NAME || strings.ContainsRune(t.Type, 0) {
			return nil, fmt.Errorf("invalid target type %s: it has 1 to %d bytes", quote(t.Type), unix.DM_MAX_TYPE_NAME-1)
		}
		if strings.ContainsRune(t.Params, 0) {
			return nil, fmt.Errorf("invalid target parameters %s: NUL byte", quote(t.Params))
		}
		size := align8(specSize + len(t.Params) + 1)
		if len(out)+size > roomMax {
			return nil, fmt.Errorf("its table is larger than %d MiB", roomMax>>20)
		}
		spec := make([]byte, size)
		binary.NativeEndian.PutUint64(spec[0:], t.Start)
		binary.NativeEndian.PutUint64(spec[8:], t.Length)
		binary.NativeEndian.PutUint32(spec[20:], uint32(size))
		copy(spec[24:], t.Type)
		copy(spec[specSize:], t.Params)
		out = append(out, spec...)
	}
	return out, nil
}

// decodeTable reads what retrieve_status (dm-ioctl.c) wrote. On the way out, next counts from the first spec.
func decodeTable(b []byte, count uint32) ([]Target, error) {
	if count > maxTargets {
		return nil, errAnswer
	}
	var table []Target
	at := uint64(0)
	for range count {
		if at > uint64(len(b)) || uint64(len(b))-at < specSize {
			return nil, errAnswer
		}
		spec := b[at:]
		next := uint64(binary.NativeEndian.Uint32(spec[20:]))
		if next < at+specSize || next > uint64(align8(len(b))) {
			return nil, errAnswer
		}
		table = append(table, Target{
			Start:  binary.NativeEndian.Uint64(spec[0:]),
			Length: binary.NativeEndian.Uint64(spec[8:]),
			Type:   cString(spec[24:specSize]),
			Params: strings.TrimRight(cString(spec[specSize:min(next-at, uint64(len(spec)))]), " "),
		})
		at = next
	}
	return table, nil
}
