package metadata

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"regexp"
	"strings"
)

// Group is a volume group.
type Group struct {
	Name  string
	UUID  string // as LVM writes it, with hyphens
	Seqno uint64 // rises with each change
	// Extent is the size of an extent in bytes; Extents are all, Free those that no volume has and that may be given to one: on physical
	// volumes that are there and allocatable.
	Extent, Extents, Free uint64
	// Tags are those of logical volumes that were asked for, by the volume's name: never changed, and shared.
	Tags map[string][]string
}

// Group reads the text, and those tags that are wanted; nil: none.
func (t Text) Group(r io.ReaderAt, wanted func(tag string) bool) (Group, error) {
	text, err := t.read(r)
	if err != nil {
		return Group{}, err
	}
	return parse(text, wanted)
}

// volume is a physical volume.
type volume struct {
	extents, used uint64
	usable        bool // allocatable
	missing       bool
}

// reading gathers what the text says.
type reading struct {
	group   Group
	wanted  func(tag string) bool
	volumes map[string]*volume
	segment segment
	under   string // the segment's path
}

// segment is a part of a logical volume. An area of it is on a physical volume if its name is one's, otherwise on another logical volume.
type segment struct {
	extents, stripes uint64
	striped          []string // one each stripe
	mirrored         []string // all extents each
}

// parse reads the text of a volume group.
func parse(text []byte, wanted func(tag string) bool) (Group, error) {
	r := &reading{wanted: wanted, volumes: map[string]*volume{}}
	err := walk(text, r.assign)
	if err == nil {
		err = r.close()
	}
	if err != nil {
		return Group{}, err
	}
	g := r.group
	if g.UUID == "" || g.Extent == 0 {
		return Group{}, damaged("the text names no volume group")
	}
	for name, v := range r.volumes {
		if v.used > v.extents {
			return Group{}, damaged("%d of %d extents of %s are used", v.used, v.extents, name)
		}
		if g.Extents += v.extents; v.usable && !v.missing {
			g.Free += v.extents - v.used
		}
	}
	return g, nil
}

const (
	maxExtents = math.MaxUint32 // LVM counts them in 32 bits
	maxVolumes = 1 << 16
)

// groupName is what LVM allows.
var groupName = regexp.MustCompile(`^[A-Za-z0-9_.+-]{1,127}$`)

// assign takes one "key = value".
func (r *reading) assign(path [][]byte, key []byte, values []value) error {
	if len(path) == 0 {
		return nil // who wrote it, and when
	}
	if r.group.Name == "" {
		if !groupName.Match(path[0]) {
			return damaged("%.40q is no name of a volume group", path[0])
		}
		r.group.Name = string(path[0])
	}
	if string(path[0]) != r.group.Name {
		return damaged("there are two volume groups")
	}
	switch {
	case len(path) == 1:
		return r.ofGroup(string(key), values)
	case len(path) == 3 && string(path[1]) == "physical_volumes":
		return r.ofVolume(string(path[2]), string(key), values)
	case len(path) == 3 && string(path[1]) == "logical_volumes" && string(key) == "tags":
		r.tags(string(path[2]), values)
	case len(path) == 4 && string(path[1]) == "logical_volumes":
		if under := string(path[2]) + "/" + string(path[3]); under != r.under {
			if err := r.close(); err != nil {
				return err
			}
			r.under = under
		}
		return r.ofSegment(string(key), values)
	}
	return nil
}

func (r *reading) ofGroup(key string, values []value) (err error) {
	switch key {
	case "id":
		r.group.UUID, err = text(values)
	case "seqno":
		r.group.Seqno, err = number(values, math.MaxUint32)
	case "extent_size": // in sectors
		r.group.Extent, err = number(values, math.MaxUint32)
		r.group.Extent *= sector
	}
	return err
}

func (r *reading) ofVolume(name, key string, values []value) (err error) {
	v := r.volumes[name]
	if v == nil {
		if len(r.volumes) == maxVolumes {
			return damaged("there are more than %d physical volumes", maxVolumes)
		}
		v = &volume{}
		r.volumes[name] = v
	}
	switch key {
	case "pe_count":
		v.extents, err = number(values, maxExtents)
	case "status":
		v.usable, v.missing = v.usable || has(values, "ALLOCATABLE"), v.missing || has(values, "MISSING")
	case "flags":
		v.missing = v.missing || has(values, "MISSING")
	}
	return err
}

// tags keeps those of a logical volume that are wanted.
func (r *reading) tags(name string, values []value) {
	for _, v := range values {
		if v.string && r.wanted != nil && r.wanted(string(v.text)) {
			if r.group.Tags == nil {
				r.group.Tags = map[string][]string{}
			}
			r.group.Tags[name] = append(r.group.Tags[name], string(v.text))
		}
	}
}

func (r *reading) ofSegment(key string, values []value) (err error) {
	s := &r.segment
	switch key {
	case "extent_count":
		s.extents, err = number(values, maxExtents)
	case "stripe_count":
		s.stripes, err = number(values, maxExtents)
	case "stripes":
		s.striped = r.places(values)
	case "mirrors":
		s.mirrored = r.places(values)
	}
	return err
}

// places are the physical volumes of a list like ["pv0", 0, "pv1", 100]. Physical volumes come before logical ones in a text.
func (r *reading) places(values []value) (names []string) {
	for _, v := range values {
		if v.string && r.volumes[string(v.text)] != nil {
			names = append(names, string(v.text))
		}
	}
	return names
}

// close counts the segment that was read.
func (r *reading) close() error {
	s := r.segment
	r.segment = segment{}
	each := s.extents / max(s.stripes, 1)
	for _, use := range []struct {
		names   []string
		extents uint64
	}{{s.striped, each}, {s.mirrored, s.extents}} {
		for _, name := range use.names {
			if r.volumes[name].used += use.extents; r.volumes[name].used > maxExtents {
				return damaged("more extents of %s are used than there can be", name)
			}
		}
	}
	return nil
}

func text(values []value) (string, error) {
	if len(values) != 1 || !values[0].string || len(values[0].text) > maxName {
		return "", damaged("a string was expected")
	}
	return string(values[0].text), nil
}

func number(values []value, most uint64) (uint64, error) {
	if len(values) != 1 || values[0].string || values[0].number > most {
		return 0, damaged("a number up to %d was expected", most)
	}
	return values[0].number, nil
}

func has(values []value, word string) bool {
	for _, v := range values {
		if v.string && bytes.Equal(v.text, []byte(word)) {
			return true
		}
	}
	return false
}

// Compact is the group's UUID without hyphens, as it is in the UUIDs of its devices ("LVM-" + group + volume).
func (g Group) Compact() string { return strings.ReplaceAll(g.UUID, "-", "") }

func (g Group) String() string {
	return fmt.Sprintf("%s (seqno %d): %d of %d extents of %d bytes are free", g.Name, g.Seqno, g.Free, g.Extents, g.Extent)
}
