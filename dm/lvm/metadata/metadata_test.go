package metadata

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
)

// example is what LVM 2.03.16 wrote.
func example(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("testdata/vg.txt")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// disk makes a physical volume with the text at an offset of an area of so many bytes.
func disk(text string, offset, length uint64, change ...func(disk []byte)) io.ReaderAt {
	const area = 4096
	d := make([]byte, area+length)
	put, put32 := binary.LittleEndian.PutUint64, binary.LittleEndian.PutUint32
	label := d[sector : 2*sector]
	copy(label, labelID)
	put(label[8:], 1)
	put32(label[20:], 32)
	copy(label[24:], labelType)
	copy(label[32:], "0123456789abcdef0123456789abcdef")
	put(label[64:], area+length)
	put(label[72:], 1<<20) // data, up to the end
	put(label[104:], area)
	put(label[112:], length)
	h := d[area : area+sector]
	copy(h[4:], areaMagic)
	put32(h[20:], 1)
	put(h[24:], area)
	put(h[32:], length)
	put(h[40:], offset)
	put(h[48:], uint64(len(text)))
	put32(h[56:], checksum([]byte(text)))
	n := copy(d[area+offset:], text)
	copy(d[area+sector:], text[n:])
	for _, c := range change {
		c(d)
	}
	put32(label[16:], checksum(label[20:]))
	put32(h, checksum(h[4:]))
	return bytes.NewReader(d)
}

func read(r io.ReaderAt) (Group, error) {
	texts, err := Find(r)
	if err != nil {
		return Group{}, err
	}
	return texts[0].Group(r, nil)
}

func TestRead(t *testing.T) {
	text := example(t)
	want, err := parse([]byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, offset := range []uint64{512, 1024, 65536 - 512, 65536 - 1536} { // the last two go round the end
		got, err := read(disk(text, offset, 65536))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("at %d: %+v, %v", offset, got, err)
		}
	}
	was, _ := Find(disk(text, 512, 65536))
	again, _ := Find(disk(text, 512, 65536))
	changed, _ := Find(disk(strings.Replace(text, "seqno = ", "seqno = 1", 1), 512, 65536))
	if was[0] != again[0] || was[0] == changed[0] {
		t.Errorf("what changed is not told from what did not: %+v, %+v, %+v", was, again, changed)
	}
}

// What is on a disk is not believed.
func TestDamaged(t *testing.T) {
	text := example(t)
	put := func(at int, n uint64) func([]byte) {
		return func(d []byte) { binary.LittleEndian.PutUint64(d[at:], n) }
	}
	const h = 4096
	for _, c := range []struct {
		name   string
		change func(d []byte)
		want   error
	}{
		{"no label", func(d []byte) { copy(d[sector:], "LABELTWO") }, ErrNone},
		{"a label of another sector", put(sector+8, 2), ErrNone},
		{"lists without end", func(d []byte) { binary.LittleEndian.PutUint32(d[sector+20:], 460) }, ErrDamaged},
		{"a header outside", func(d []byte) { binary.LittleEndian.PutUint32(d[sector+20:], 1<<31) }, ErrDamaged},
		{"no areas", put(sector+104, 0), ErrNone},
		{"an area beyond the end", put(sector+104, 1<<40), io.EOF},
		{"an area at a negative place", put(sector+104, 1<<63), nil},
		{"no magic", func(d []byte) { d[h+5] = 'x' }, ErrDamaged},
		{"another version", func(d []byte) { d[h+20] = 2 }, ErrDamaged},
		{"an area that says it is elsewhere", put(h+24, 8192), ErrDamaged},
		{"no text", put(h+40, 0), ErrNone},
		{"an area not in use", func(d []byte) { d[h+60] = ignored }, ErrNone},
		{"a text before the area", put(h+40, 100), ErrDamaged},
		{"a text behind the area", put(h+40, 1<<40), ErrDamaged},
		{"a text larger than the area", put(h+48, 1<<40), ErrDamaged},
		{"an area of nothing", put(h+32, 0), ErrDamaged},
		{"another text", func(d []byte) { d[h+sector+3]++ }, ErrDamaged},
		{"a text without end", func(d []byte) { put(h+32, 1<<50)(d); put(h+48, 1<<49)(d) }, nil},
	} {
		g, err := read(disk(text, 512, 65536, c.change))
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %+v, %v", c.name, g, err)
		}
	}
	if _, err := read(bytes.NewReader(make([]byte, 100))); err == nil {
		t.Error("a disk of 100 bytes has metadata")
	}
}

func TestParse(t *testing.T) {
	const head = `vg {id="a-b" seqno=7 extent_size=8192 status=["RESIZEABLE","READ"] physical_volumes {`
	const pv = `pv0 {id="x" status=["ALLOCATABLE"] flags=[] pe_start=2048 pe_count=100} pv1 {status=["ALLOCATABLE"] pe_count=50}`
	for _, c := range []struct {
		name, text    string
		extents, free uint64
		wrong         string
	}{
		{name: "nothing in it", text: head + pv + `}}`, extents: 150, free: 150},
		{name: "linear", text: head + pv + `} logical_volumes { a {segment_count=2 segment1 {start_extent=0 extent_count=10 type="striped" stripe_count=1 stripes=["pv0",0]} segment2 {extent_count=5 stripe_count=1 stripes=["pv1",3]}}}}`, extents: 150, free: 135},
		{name: "striped", text: head + pv + `} logical_volumes { a {segment1 {extent_count=20 stripe_count=2 stripe_size=128 stripes=["pv0",0,"pv1",0]}}}}`, extents: 150, free: 130},
		{name: "mirrored, by pvmove", text: head + pv + `} logical_volumes { pvmove0 {segment1 {extent_count=20 type="mirror" mirror_count=2 mirrors=["pv0",0,"pv1",0]}}}}`, extents: 150, free: 110},
		{name: "on other volumes", text: head + pv + `} logical_volumes { a {segment1 {extent_count=20 type="thin-pool" metadata="m" pool="d"}} r {segment1 {extent_count=20 type="raid1" raids=["r0","r1"]}}}}`, extents: 150, free: 150},
		{name: "not allocatable, missing", text: strings.ReplaceAll(head+pv+`}}`, `flags=[]`, `flags=["MISSING"]`), extents: 150, free: 50},
		{name: "not allocatable", text: head + `pv0 {status=[] pe_count=100} pv1 {status=["ALLOCATABLE"] pe_count=50}}}`, extents: 150, free: 50},
		{name: "comments, escapes, negative numbers", text: "# by LVM\n" + head + pv + "}} # end\ncontents = \"a \\\"}\"\nversion = -1\nx=1.5\n\x00", extents: 150, free: 150},
		{name: "empty", text: "", wrong: "names no volume group"},
		{name: "no extents", text: `vg {id="a"}`, wrong: "names no volume group"},
		{name: "cut", text: head + pv, wrong: "within a section"},
		{name: "cut in a string", text: `vg {id="a`, wrong: "within a string"},
		{name: "cut in a list", text: `vg {a=["a",`, wrong: "no value"},
		{name: "cut behind a backslash", text: `vg {id="\`, wrong: "within a string"},
		{name: "no name", text: `vg { = 1 }`, wrong: "no name"},
		{name: "neither", text: `vg { a } `, wrong: "neither"},
		{name: "two groups", text: head + pv + `}} vh {id="c"}`, wrong: "two volume groups"},
		{name: "deep", text: strings.Repeat("a{", 20), wrong: "too deep"},
		{name: "a long name", text: strings.Repeat("a", 300) + "{", wrong: "no name"},
		{name: "a name that is none", text: "/{a=1}", wrong: "no name of a volume group"},
		{name: "too large", text: `vg {seqno=99999999999999999999999}`, wrong: "too large"},
		{name: "too many extents", text: head + `pv0 {pe_count=99999999999}}}`, wrong: "up to"},
		{name: "a list for a number", text: `vg {seqno=[1,2]}`, wrong: "up to"},
		{name: "more than there is", text: head + pv + `} logical_volumes { a {segment1 {extent_count=101 stripe_count=1 stripes=["pv0",0]}}}}`, wrong: "101 of 100"},
	} {
		g, err := parse([]byte(c.text), nil)
		switch {
		case c.wrong != "":
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%s: %+v, %v", c.name, g, err)
			}
		case err != nil || g.Extents != c.extents || g.Free != c.free || g.Name != "vg" || g.Seqno != 7 || g.Extent != 4<<20 || g.Compact() != "ab":
			t.Errorf("%s: %+v, %v", c.name, g, err)
		}
	}
}

// Tags are kept if they are wanted, of logical volumes alone.
func TestTags(t *testing.T) {
	text := `vg {id="a-b" seqno=7 extent_size=8192 tags=["x"] physical_volumes {pv0 {pe_count=9 tags=["x"]}} logical_volumes {` +
		`a {tags=["x", "y", "x.1"] segment1 {tags=["x"] extent_count=2 stripe_count=1 stripes=["pv0",0]}} b {tags=["y"]} c {} d {tags=["x"]}}}`
	wanted := func(tag string) bool { return strings.HasPrefix(tag, "x") }
	g, err := parse([]byte(text), wanted)
	if want := map[string][]string{"a": {"x", "x.1"}, "d": {"x"}}; err != nil || !reflect.DeepEqual(g.Tags, want) {
		t.Errorf("%v, %v", g.Tags, err)
	}
	if g, err := parse([]byte(text), nil); err != nil || g.Tags != nil {
		t.Errorf("none are wanted: %v, %v", g.Tags, err)
	}
}

const small = `vg {id="a-b" seqno=7 extent_size=8192 physical_volumes {pv0 {pe_count=9}} logical_volumes {a {segment1 {extent_count=2 stripe_count=2 stripes=["pv0",0]}}}}`

func FuzzParse(f *testing.F) {
	f.Add([]byte(example(f)))
	f.Add([]byte(small))
	f.Fuzz(func(t *testing.T, text []byte) {
		if g, err := parse(text, nil); err == nil && (g.Free > g.Extents || g.Name == "") {
			t.Errorf("%+v", g)
		}
	})
}

// FuzzDisk overwrites a number of label or header, whose checksums are right all the same.
func FuzzDisk(f *testing.F) {
	f.Add([]byte(small), uint16(0), uint64(0))
	for _, at := range []uint16{sector + 20, sector + 72, sector + 104, 4096 + 24, 4096 + 32, 4096 + 40, 4096 + 48, 4096 + 60} {
		f.Add([]byte(small), at, uint64(1)<<63)
	}
	f.Fuzz(func(t *testing.T, text []byte, at uint16, n uint64) {
		if len(text) > 1024-sector {
			return
		}
		r := disk(string(text), 1024-64, 1024, func(d []byte) { binary.LittleEndian.PutUint64(d[int(at)%(len(d)-8):], n) })
		texts, err := Find(r)
		if err != nil {
			return
		}
		for _, text := range texts {
			if g, err := text.Group(r, nil); err == nil && g.Free > g.Extents {
				t.Errorf("%+v", g)
			}
		}
	})
}
