package dm

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// Every table that a parser accepts is written back as it was read.
func TestParseTables(t *testing.T) {
	linear := func(s string) (fmt.Stringer, error) { return anyOf(ParseLinearTable(s)) }
	thin := func(s string) (fmt.Stringer, error) { return anyOf(ParseThinTable(s)) }
	pool := func(s string) (fmt.Stringer, error) { return anyOf(ParseThinPoolTable(s)) }
	snap := func(s string) (fmt.Stringer, error) { return anyOf(ParseSnapshotTable(s)) }
	origin := func(s string) (fmt.Stringer, error) { return anyOf(ParseSnapshotOriginTable(s)) }
	for _, c := range []struct {
		parse func(string) (fmt.Stringer, error)
		text  string
		want  fmt.Stringer
		bad   string
	}{
		{parse: linear, text: "8:17 2048", want: LinearTable{Dest: MkDev(8, 17), Offset: 2048}},
		{parse: linear, text: "8:17", bad: `cannot parse linear table "8:17": no valid offset`},
		{parse: linear, text: "8:17 0 1", bad: "end of line"},
		{parse: linear, text: "/dev/sda 0", bad: "destination device"},
		{parse: linear, text: "4096:1 0", bad: "destination device"},
		{parse: linear, text: "8:1048576 0", bad: "destination device"},
		{parse: thin, text: "253:4 17", want: ThinTable{Pool: MkDev(253, 4), ID: 17}},
		{parse: thin, text: "253:4 16777215 253:9", want: ThinTable{Pool: MkDev(253, 4), ID: MaxThinID, ExternalOrigin: MkDev(253, 9)}},
		{parse: thin, text: "253:4 16777216", bad: "device id"},
		{parse: thin, text: "253:4 1 x", bad: "external origin"},
		{parse: pool, text: "253:2 253:3 128 0 0", want: ThinPoolTable{Metadata: MkDev(253, 2), Data: MkDev(253, 3), BlockSize: 128}},
		{parse: pool, text: "253:2 253:3 128 5 2 skip_block_zeroing error_if_no_space",
			want: ThinPoolTable{Metadata: MkDev(253, 2), Data: MkDev(253, 3), BlockSize: 128, LowWater: 5,
				Features: []string{"skip_block_zeroing", "error_if_no_space"}}},
		{parse: pool, text: "253:2 253:3 0 5 0", bad: "block size"},
		{parse: pool, text: "253:2 253:3 128 5 2 a", bad: "features"},
		{parse: pool, text: "253:2 253:3 128 5 1 a b", bad: "end of line"},
		{parse: pool, text: "253:2 253:3 128 5 99999999999999", bad: "features"},
		{parse: snap, text: "253:5 253:6 P 8", want: SnapshotTable{Origin: MkDev(253, 5), COW: MkDev(253, 6), Store: "P", ChunkSize: 8}},
		{parse: snap, text: "253:5 253:6 PO 8 1 discard_zeroes_cow",
			want: SnapshotTable{Origin: MkDev(253, 5), COW: MkDev(253, 6), Store: "PO", ChunkSize: 8, Features: []string{"discard_zeroes_cow"}}},
		{parse: snap, text: "253:5 253:6 Q 8", bad: "kind of store"},
		{parse: snap, text: "253:5 P 8", bad: "COW device"},
		{parse: origin, text: "253:5", want: SnapshotOriginTable{Dest: MkDev(253, 5)}},
		{parse: origin, text: "", bad: "device"},
	} {
		got, err := c.parse(c.text)
		switch {
		case c.bad != "":
			if err == nil || !strings.Contains(err.Error(), c.bad) {
				t.Errorf("%q: error %v, want one about %q", c.text, err, c.bad)
			}
		case err != nil:
			t.Error(err)
		case !reflect.DeepEqual(got, c.want):
			t.Errorf("%q:\n got %#v\nwant %#v", c.text, got, c.want)
		case len(strings.Fields(c.text)) > 0 && normal(got.String()) != normal(c.text):
			t.Errorf("%q is written back as %q", c.text, got)
		}
	}
}

func normal(s string) string { return strings.Join(strings.Fields(s), " ") }

func anyOf[T fmt.Stringer](v T, err error) (fmt.Stringer, error) { return v, err }

func FuzzParseTables(f *testing.F) {
	f.Add("8:17 2048")
	f.Add("253:4 17 253:9")
	f.Add("253:2 253:3 128 5 2 skip_block_zeroing error_if_no_space")
	f.Add("253:5 253:6 PO 8 1 discard_zeroes_cow")
	f.Fuzz(func(t *testing.T, text string) {
		again(t, ParseLinearTable, text)
		again(t, ParseThinTable, text)
		again(t, ParseThinPoolTable, text)
		again(t, ParseSnapshotTable, text)
		again(t, ParseSnapshotOriginTable, text)
	})
}

// again checks that what was read can be written and is then read the same.
func again[T fmt.Stringer](t *testing.T, parse func(string) (T, error), text string) {
	v, err := parse(text)
	if err != nil {
		if len(err.Error()) > 600 {
			t.Errorf("long error for %q", text)
		}
		return
	}
	w, err := parse(v.String())
	if err != nil || !reflect.DeepEqual(v, w) {
		t.Errorf("%q: %#v becomes %#v, %v", text, v, w, err)
	}
}
