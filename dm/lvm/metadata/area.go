package metadata

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

const (
	sector      = 512
	labelScan   = 4 // sectors in which a label may be
	labelID     = "LABELONE"
	labelType   = "LVM2 001"
	areaMagic   = " LVM2 x[5A%r0N*>"
	areaVersion = 1
	ignored     = 1 // flag of an area that LVM does not use (RAW_LOCN_IGNORED)
	// MaxText bounds how much text is read, in bytes: the text of 30,000 volumes. LVM's own areas have 1 MiB by default.
	MaxText = 16 << 20
)

var (
	// ErrNone: there is no label of LVM's, or no metadata area in use.
	ErrNone = errors.New("it has no metadata of LVM's")
	// ErrDamaged: a checksum is wrong, or the text makes no sense. LVM may have been writing: read it again.
	ErrDamaged = errors.New("the metadata on it are damaged, or were just being written")
)

func damaged(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, a...))
}

// Text is where the text of a metadata area is, and its checksum: if they are as before, so is the text.
type Text struct {
	area, length uint64 // of the metadata area, bytes on the device
	offset, size uint64 // of the text, in the area
	checksum     uint32
}

// Find finds the metadata areas of a physical volume that are in use. It reads a few KiB.
func Find(r io.ReaderAt) ([]Text, error) {
	areas, err := label(r)
	if err != nil {
		return nil, err
	}
	var texts []Text
	var errs []error
	for _, a := range areas {
		t, ok, err := header(r, a)
		if err != nil {
			errs = append(errs, err) // another area may do
		} else if ok {
			texts = append(texts, t)
		}
	}
	if len(texts) > 0 {
		return texts, nil
	}
	return nil, errors.Join(append(errs, ErrNone)...)
}

type place struct{ offset, size uint64 }

// label reads the label and the header behind it: the places of the metadata areas.
func label(r io.ReaderAt) ([]place, error) {
	head := make([]byte, labelScan*sector)
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, err
	}
	for i := range labelScan {
		s := head[i*sector : (i+1)*sector]
		if string(s[:8]) != labelID || string(s[24:32]) != labelType || binary.LittleEndian.Uint64(s[8:]) != uint64(i) {
			continue
		}
		if checksum(s[20:]) != binary.LittleEndian.Uint32(s[16:]) {
			return nil, damaged("the checksum of the label")
		}
		return areas(s, binary.LittleEndian.Uint32(s[20:]))
	}
	return nil, ErrNone
}

// areas reads the lists of a physical volume's header, which has to lie in the label's sector.
func areas(s []byte, at uint32) ([]place, error) {
	const lists = 32 + 8 // behind UUID and size
	if at > sector-lists {
		return nil, damaged("the header of the physical volume is outside its sector")
	}
	s = s[at+lists:]
	var found []place
	for list := 0; list < 2; {
		if len(s) < 16 {
			return nil, damaged("a list of areas has no end")
		}
		p := place{binary.LittleEndian.Uint64(s), binary.LittleEndian.Uint64(s[8:])}
		s = s[16:]
		switch {
		case p.offset == 0:
			list++
		case list == 1:
			found = append(found, p)
		}
	}
	return found, nil
}

// header reads the header of a metadata area; ok is false for one that has no text, or is not in use.
func header(r io.ReaderAt, p place) (t Text, ok bool, err error) {
	h := make([]byte, sector)
	if _, err := r.ReadAt(h, int64(p.offset)); err != nil {
		return Text{}, false, err
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(h[i:]) }
	if checksum(h[4:]) != binary.LittleEndian.Uint32(h) || !bytes.Equal(h[4:20], []byte(areaMagic)) {
		return Text{}, false, damaged("the header of the metadata area")
	}
	if v := binary.LittleEndian.Uint32(h[20:]); v != areaVersion || word(24) != p.offset {
		return Text{}, false, damaged("the metadata area has version %d and says that it is at %d, not %d", v, word(24), p.offset)
	}
	t = Text{area: p.offset, length: word(32), offset: word(40), size: word(48), checksum: binary.LittleEndian.Uint32(h[56:])}
	if t.offset == 0 || binary.LittleEndian.Uint32(h[60:])&ignored != 0 {
		return Text{}, false, nil
	}
	if t.length <= sector || t.offset < sector || t.offset >= t.length || t.size > t.length-sector {
		return Text{}, false, damaged("a text of %d bytes at %d is not in an area of %d", t.size, t.offset, t.length)
	}
	if t.size > MaxText {
		return Text{}, false, fmt.Errorf("a text of %d bytes is more than the %d that are read", t.size, uint64(MaxText))
	}
	return t, true, nil
}

// read reads the text, which may go round the end of the area.
func (t Text) read(r io.ReaderAt) ([]byte, error) {
	text := make([]byte, t.size)
	first := min(t.size, t.length-t.offset)
	if _, err := r.ReadAt(text[:first], int64(t.area+t.offset)); err != nil {
		return nil, err
	}
	if _, err := r.ReadAt(text[first:], int64(t.area+sector)); err != nil {
		return nil, err
	}
	if checksum(text) != t.checksum {
		return nil, damaged("the checksum of the text")
	}
	return text, nil
}

// checksum is LVM's calc_crc: that of Ethernet, begun otherwise, and not inverted at the end.
func checksum(b []byte) uint32 {
	const initial = 0xf597a6cf
	return ^crc32.Update(^uint32(initial), crc32.IEEETable, b)
}
