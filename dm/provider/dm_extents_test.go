package provider

import (
	"reflect"
	"testing"

	"github.com/fermata-project/fermata/dm"
)

func TestGaps(t *testing.T) {
	for _, test := range []struct {
		name  string
		all   run
		taken []run
		want  []run
	}{
		{"all free", run{1, 9}, nil, []run{{1, 9}}},
		{"none free", run{1, 9}, []run{{1, 9}}, nil},
		{"nothing at all", run{1, 0}, nil, nil},
		{"out of order", run{1, 9}, []run{{7, 1}, {2, 2}}, []run{{1, 1}, {4, 3}, {8, 2}}},
		{"neighbours", run{1, 9}, []run{{1, 2}, {3, 2}}, []run{{5, 5}}},
		{"one inside another", run{1, 9}, []run{{2, 6}, {3, 1}, {2, 1}}, []run{{1, 1}, {8, 2}}},
		{"over both ends", run{2, 4}, []run{{0, 3}, {5, 9}}, []run{{3, 2}}},
		{"beyond the end", run{1, 3}, []run{{8, 2}}, []run{{1, 3}}}, // of a device that has shrunk
	} {
		if got := gaps(test.all, test.taken); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

func TestFit(t *testing.T) {
	for _, test := range []struct {
		name string
		gaps []run
		n    uint64
		want []run
	}{
		{"the first that is large enough", []run{{1, 2}, {5, 4}, {11, 9}}, 3, []run{{5, 3}}},
		{"exactly", []run{{1, 2}, {5, 4}}, 4, []run{{5, 4}}},
		{"in pieces", []run{{1, 2}, {5, 4}, {11, 3}}, 7, []run{{1, 2}, {5, 4}, {11, 1}}},
		{"all there is", []run{{1, 2}, {5, 4}}, 6, []run{{1, 2}, {5, 4}}},
		{"too much", []run{{1, 2}, {5, 4}}, 7, nil},
		{"of nothing", nil, 1, nil},
	} {
		if got := fit(test.gaps, test.n); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// What is carved is read back, also when the last extent is not used up.
func TestCarve(t *testing.T) {
	device := dm.MkDev(8, 16)
	runs := []run{{3, 2}, {9, 1}}
	table := carve(device, runs, 2<<20+8192)
	want := []dm.Target{
		{Start: 0, Length: 4096, Type: "linear", Params: "8:16 6144"},
		{Start: 4096, Length: 16, Type: "linear", Params: "8:16 18432"},
	}
	if !reflect.DeepEqual(table, want) {
		t.Errorf("%v, want %v", table, want)
	}
	if got, whole, err := carved(device, table); !reflect.DeepEqual(got, runs) || !whole || err != nil {
		t.Errorf("%v, %v, %v", got, whole, err)
	}
	if got, whole, err := carved(dm.MkDev(8, 32), table); len(got) != 0 || whole || err != nil {
		t.Errorf("of another device: %v, %v, %v", got, whole, err)
	}
	// Not by extents: whatever they touch is taken.
	other := []dm.Target{{Length: 2048, Type: "linear", Params: "8:16 2049"}}
	if got, _, err := carved(device, other); !reflect.DeepEqual(got, []run{{1, 2}}) || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []dm.Target{{Length: 8, Type: "zero"}, {Length: 8, Type: "linear", Params: "x"}} {
		if got, _, err := carved(device, []dm.Target{bad}); err == nil {
			t.Errorf("%v: %v", bad, got)
		}
	}
}
