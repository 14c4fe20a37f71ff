package dm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// asAnswered turns an encoded table into what the kernel answers, where next counts from the first spec.
func asAnswered(b []byte) []byte {
	b = bytes.Clone(b)
	for at := 0; at < len(b); {
		size := int(binary.NativeEndian.Uint32(b[at+20:]))
		binary.NativeEndian.PutUint32(b[at+20:], uint32(at+size))
		at += size
	}
	return b
}

func TestTableRoundTrip(t *testing.T) {
	for _, table := range [][]Target{
		{{0, 8, "error", ""}},
		{{0, 2048, "linear", "8:1 0"}, {2048, 1 << 40, "linear", "8:2 2048"}, {1<<40 + 2048, 8, "zero", ""}},
		{{0, 1, "fifteen_letters", strings.Repeat("x", 5000)}},
	} {
		b, err := encodeTable(table)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeTable(asAnswered(b), uint32(len(table)))
		if err != nil || !reflect.DeepEqual(got, table) {
			t.Errorf("got %v, %v; want %v", got, err, table)
		}
	}
}

func TestEncodeTableRefuses(t *testing.T) {
	for name, table := range map[string][]Target{
		"empty":         nil,
		"no type":       {{0, 8, "", ""}},
		"long type":     {{0, 8, "sixteen_letters_", ""}},
		"NUL in type":   {{0, 8, "a\x00b", ""}},
		"NUL in params": {{0, 8, "linear", "8:1\x000"}},
		"too many":      make([]Target, maxTargets+1),
		"too large":     {{0, 8, "linear", strings.Repeat("x", roomMax)}},
	} {
		if _, err := encodeTable(table); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzDecodeTable(f *testing.F) {
	b, err := encodeTable([]Target{{0, 2048, "linear", "8:1 0"}, {2048, 8, "error", ""}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(asAnswered(b), uint32(2))
	f.Add(b, uint32(2))
	f.Fuzz(func(t *testing.T, b []byte, count uint32) {
		if table, err := decodeTable(b, count); err == nil && uint32(len(table)) != count {
			t.Errorf("%d targets, want %d", len(table), count)
		}
	})
}

// listAnswer lays out what list_devices answers.
func listAnswer(entries []ListEntry, withUUID bool) []byte {
	var out []byte
	for i, e := range entries {
		b := make([]byte, align8(12+len(e.Name)+1))
		binary.NativeEndian.PutUint64(b, uint64(e.Dev))
		copy(b[12:], e.Name)
		b = binary.NativeEndian.AppendUint32(b, e.EventNr)
		flags := uint32(unix.DM_NAME_LIST_FLAG_DOESNT_HAVE_UUID)
		if e.UUID != "" {
			flags = unix.DM_NAME_LIST_FLAG_HAS_UUID
		}
		if !withUUID {
			flags = 0xdeadbeef // what happened to be in the buffer
		}
		b = binary.NativeEndian.AppendUint32(b, flags)
		if withUUID && e.UUID != "" {
			b = append(append(b, e.UUID...), 0)
			b = append(b, make([]byte, align8(len(b))-len(b))...)
		}
		if i < len(entries)-1 {
			binary.NativeEndian.PutUint32(b[8:], uint32(len(b)))
		}
		out = append(out, b...)
	}
	return out
}

func TestParseList(t *testing.T) {
	want := []ListEntry{
		{Name: "vg-home", UUID: "LVM-abc", Dev: MkDev(253, 0), EventNr: 3},
		{Name: "raw", Dev: MkDev(253, 300), EventNr: 0},
		{Name: "seven77", UUID: "x", Dev: MkDev(253, 2), EventNr: 1<<32 - 1},
	}
	got, err := parseList(listAnswer(want, true), true)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	for i := range want {
		want[i].UUID = ""
	}
	got, err = parseList(listAnswer(want, false), false)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("before 4.45: got %v, %v; want %v", got, err, want)
	}
	if got, err := parseList(make([]byte, 16), true); err != nil || got != nil {
		t.Errorf("no devices: %v, %v", got, err)
	}
	if got, err := parseList(nil, true); err != nil || got != nil { // a host without any device
		t.Errorf("nothing: got %v, %v", got, err)
	}
	if _, err := parseList(make([]byte, 5), true); !errors.Is(err, errAnswer) {
		t.Errorf("no answer: %v", err)
	}
}

func FuzzParseList(f *testing.F) {
	f.Add(listAnswer([]ListEntry{{Name: "a", UUID: "b", Dev: 1}, {Name: "c", Dev: 2}}, true))
	f.Fuzz(func(t *testing.T, b []byte) {
		parseList(b, true)
		parseList(b, false)
		parseTargets(b)
		parseDeps(b)
	})
}

func TestParseTargets(t *testing.T) {
	b := []byte{}
	for i, name := range []string{"linear\x00\x00", "thin-pool\x00\x00\x00\x00\x00\x00\x00"} {
		next := uint32(24)
		if i == 1 {
			next = 0
		}
		for _, w := range []uint32{next, 1, uint32(i), 7} {
			b = binary.NativeEndian.AppendUint32(b, w)
		}
		b = append(b, name...)
	}
	want := []TargetType{{"linear", 1, 0, 7}, {"thin-pool", 1, 1, 7}}
	if got, err := parseTargets(b); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

func TestParseDeps(t *testing.T) {
	b := []byte{2, 0, 0, 0, 0, 0, 0, 0}
	b = binary.NativeEndian.AppendUint64(b, uint64(MkDev(8, 1)))
	b = binary.NativeEndian.AppendUint64(b, uint64(MkDev(8, 2)))
	if got, err := parseDeps(b); err != nil || !reflect.DeepEqual(got, []Dev{MkDev(8, 1), MkDev(8, 2)}) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := parseDeps(b[:20]); !errors.Is(err, errAnswer) {
		t.Errorf("truncated: %v", err)
	}
	if got, err := parseDeps(nil); err != nil || got != nil {
		t.Errorf("a device without a table: %v, %v", got, err)
	}
}

// A Call fires the same request again after the kernel has written its answer over it.
func TestRequestFillResets(t *testing.T) {
	q := messageRequest(ByDev(MkDev(253, 3)), 0, "create_snap 5 1")
	buf := make([]byte, q.size(0))
	q.fill(buf)
	fresh := bytes.Clone(buf)
	for i := range buf {
		buf[i] = 0xff
	}
	q.fill(buf)
	if !bytes.Equal(buf, fresh) {
		t.Error("a second fill differs from the first")
	}
	if n := testing.AllocsPerRun(100, func() { q.fill(buf) }); n != 0 {
		t.Errorf("fill allocates %v times", n)
	}
	if h := head(buf); h.Version != [3]uint32{4, 0, 0} || h.Data_start != headSize || h.Data_size != uint32(len(buf)) ||
		Dev(h.Dev) != MkDev(253, 3) || h.Name[0] != 0 || h.Uuid[0] != 0 {
		t.Errorf("header %+v", h)
	}
	if got := string(buf[headSize+8 : headSize+8+16]); got != "create_snap 5 1\x00" {
		t.Errorf("message %q", got)
	}
}
