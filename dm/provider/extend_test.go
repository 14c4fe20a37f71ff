package provider

import (
	"errors"
	"testing"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/dm/lvm"
)

func TestGrowth(t *testing.T) {
	const mib = 1 << 20
	percent := func(n float64) config.Space { return config.Space{Percent: n} }
	size := func(n uint64) config.Space { return config.Space{Size: config.Size(n * mib)} }
	for _, c := range []struct {
		name   string
		free   uint64 // MiB
		shared bool
		x      Extension
		want   uint64 // MiB
		err    error
	}{
		{name: "a share", free: 400, x: Extension{By: percent(20)}, want: 120},
		{name: "rounded up to extents", free: 400, x: Extension{By: percent(1)}, want: 104},
		{name: "so much", free: 400, x: Extension{By: size(50)}, want: 152},
		{name: "metadata", free: 400, x: Extension{By: percent(50), Metadata: true}, want: 12},
		{name: "what there is", free: 10, x: Extension{By: percent(20)}, want: 108},
		{name: "to the limit", free: 400, x: Extension{By: percent(20), Limit: 113 * mib}, want: 112},
		{name: "at the limit", free: 400, x: Extension{By: percent(20), Limit: 103 * mib}, err: ErrLimit},
		{name: "beyond the limit", free: 400, x: Extension{By: percent(20), Limit: 50 * mib}, err: ErrLimit},
		{name: "no room", free: 3, x: Extension{By: percent(20)}, err: ErrNoRoom},
		{name: "all room is reserve", free: 100, x: Extension{By: percent(20), Reserve: percent(10)}, err: ErrNoRoom},
		{name: "above the reserve", free: 110, x: Extension{By: percent(20), Reserve: percent(10)}, want: 108},
		{name: "the whole", free: 100, x: Extension{By: size(100), Whole: true}, want: 200},
		{name: "not a part", free: 99, x: Extension{By: size(100), Whole: true}, err: ErrNoRoom},
		{name: "not a part to the limit", free: 400, x: Extension{By: size(100), Limit: 150 * mib, Whole: true}, err: ErrLimit},
	} {
		inventory := &lvm.Inventory{
			VGs: []lvm.VG{{Name: "vg", Size: 1000 * mib, Free: c.free * mib, ExtentSize: 4 * mib}},
			LVs: []lvm.LV{{VG: "vg", Name: "pool", SegType: "thin-pool", Size: 100 * mib, MetadataSize: 8 * mib}},
		}
		got, err := growth(inventory, "vg/pool", c.x)
		if !errors.Is(err, c.err) || got != c.want*mib {
			t.Errorf("%s: %d MiB, %v; want %d MiB, %v", c.name, got/mib, err, c.want, c.err)
		}
	}
	shared := &lvm.Inventory{VGs: []lvm.VG{{Name: "vg", Shared: true, ExtentSize: 1, Free: 9}}, LVs: []lvm.LV{{VG: "vg", Name: "pool", SegType: "thin-pool"}}}
	for _, pool := range []string{"vg/pool", "vg/other", "other/pool", "vg"} {
		if _, err := growth(shared, pool, Extension{By: percent(20)}); err == nil {
			t.Errorf("%s is extended", pool)
		}
	}
}
