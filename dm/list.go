package dm

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// ListEntry is one device of List.
type ListEntry struct {
	Name    string
	UUID    string // empty if it has none
	Dev     Dev
	EventNr uint32 // as in Info
}

// Kernels before 5.13 (interface 4.45) do not put UUIDs into the list; the word that says so is not written there either.
const listUUIDMinor = 45

// List lists all device-mapper devices.
func (c *Control) List() ([]ListEntry, error) {
	q := request{op: "list device-mapper devices", cmd: unix.DM_LIST_DEVICES, flags: unix.DM_UUID_FLAG}
	buf, err := c.do(&q, roomDefault)
	if err != nil {
		return nil, err
	}
	withUUID := head(buf).Version[1] >= listUUIDMinor
	list, err := parseList(answer(buf), withUUID)
	if err != nil {
		return nil, fmt.Errorf("cannot list device-mapper devices: %w", err)
	}
	if withUUID {
		return list, nil
	}
	for i := range list {
		// A device that has gone meanwhile keeps an empty UUID: the list was true when it was made.
		if info, err := c.Info(ByDev(list[i].Dev)); err == nil {
			list[i].UUID = info.UUID
		}
	}
	return list, nil
}

// parseList reads struct dm_name_list: device, distance to the next entry, name; then, aligned to 8 bytes, event number
// and flags, and the UUID if a flag says so (list_devices, dm-ioctl.c).
func parseList(b []byte, withUUID bool) ([]ListEntry, error) {
	const nameAt = 12
	var list []ListEntry
	if len(b) == 0 { // no device at all: some kernels answer with nothing
		return nil, nil
	}
	for {
		if len(b) < nameAt {
			return nil, errAnswer
		}
		e := ListEntry{Dev: Dev(binary.NativeEndian.Uint64(b)), Name: cString(b[nameAt:])}
		if e.Dev == 0 && list == nil {
			return nil, nil
		}
		next := uint64(binary.NativeEndian.Uint32(b[8:]))
		at := align8(nameAt + len(e.Name) + 1)
		if len(b) < at+4 {
			return nil, errAnswer
		}
		e.EventNr = binary.NativeEndian.Uint32(b[at:])
		if withUUID && len(b) >= at+8 && binary.NativeEndian.Uint32(b[at+4:])&unix.DM_NAME_LIST_FLAG_HAS_UUID != 0 {
			e.UUID = cString(b[at+8:])
		}
		list = append(list, e)
		if next == 0 {
			return list, nil
		}
		if next < uint64(at) || next > uint64(len(b)) {
			return nil, errAnswer
		}
		b = b[next:]
	}
}

// TargetType is a kind of target that the running kernel has loaded.
type TargetType struct {
	Name                string
	Major, Minor, Patch uint32
}

// Targets lists the kinds of targets that are loaded. One that is missing may still be a module that Load would load.
func (c *Control) Targets() ([]TargetType, error) {
	q := request{op: "list device-mapper targets", cmd: unix.DM_LIST_VERSIONS}
	buf, err := c.do(&q, roomDefault)
	if err != nil {
		return nil, err
	}
	types, err := parseTargets(answer(buf))
	if err != nil {
		return nil, fmt.Errorf("cannot list device-mapper targets: %w", err)
	}
	return types, nil
}

// parseTargets reads struct dm_target_versions: distance to the next, three numbers, name.
func parseTargets(b []byte) ([]TargetType, error) {
	const nameAt = 16
	var types []TargetType
	for len(b) > 0 {
		if len(b) <= nameAt {
			return nil, errAnswer
		}
		word := func(i int) uint32 { return binary.NativeEndian.Uint32(b[4*i:]) }
		types = append(types, TargetType{Name: cString(b[nameAt:]), Major: word(1), Minor: word(2), Patch: word(3)})
		next := uint64(word(0))
		if next == 0 {
			break
		}
		if next <= nameAt || next > uint64(len(b)) {
			return nil, errAnswer
		}
		b = b[next:]
	}
	return types, nil
}
