package provider

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/lvm"
)

// half is a size and a share.
type half struct{}

func (half) Of(total uint64) uint64 { return total / 2 }
func (half) String() string         { return "50%" }

// ofUsed is twice what is used.
type ofUsed struct{}

func (ofUsed) Of(_, used uint64) uint64 { return 2 * used }
func (ofUsed) String() string           { return "200%used" }

func TestCOWSize(t *testing.T) {
	for _, c := range []struct {
		name string
		v    Volume
		want uint64
	}{
		{"by default", Volume{Size: 1 << 30, Used: 10 << 20}, 20 << 20},
		{"by the policy", Volume{Size: 1 << 30, Used: 10 << 20, COW: 50 << 20}, 50 << 20},
		{"use not known, and so a full copy", Volume{Size: 64 << 20}, 64<<20 + 66*4096},
		{"whole chunks: lvcreate takes no part of a sector", Volume{Size: 1 << 30, COW: 50<<20 + 1}, 50<<20 + 4096},
		{"more than there can be", Volume{Size: 64 << 20, COW: math.MaxUint64}, 64<<20 + 66*4096},
		{"room for one chunk at least", Volume{Size: 1 << 30, COW: 1}, 3 * 4096},
		{"a volume of one sector", Volume{Size: 512, COW: 1 << 40}, 3 * 4096},
		{"an area of metadata that is just full", Volume{Size: 256 * 4096, COW: 1 << 40}, (1 + 2 + 256) * 4096},
	} {
		if got := cowSize(c.v, ofUsed{}); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	for _, c := range [][3]uint64{{1, 4, 4}, {4, 4, 4}, {5, 4, 8}, {0, 4, 0}, {7, 0, 7}, {math.MaxUint64 - 3, 4, math.MaxUint64 - 3}} {
		if got := roundUp(c[0], c[1]); got != c[2] {
			t.Errorf("%d in units of %d: %d, want %d", c[0], c[1], got, c[2])
		}
	}
}

// The sum of a set decides, for each volume group, in whole extents.
func TestThickRoom(t *testing.T) {
	inventory := &lvm.Inventory{VGs: []lvm.VG{
		{Name: "a", Size: 80 << 20, Free: 60 << 20, ExtentSize: 4 << 20},
		{Name: "b", Size: 8 << 20, Free: 8 << 20, ExtentSize: 4 << 20},
	}}
	volume := func(name string, cow uint64) Volume { return Volume{Name: name, Size: 1 << 30, COW: cow} }
	p := NewThick(nil, nil, ofUsed{}, half{})
	for _, c := range []struct {
		vols []Volume
		want string
	}{
		{[]Volume{volume("a/x", 20<<20)}, ""},
		{[]Volume{volume("a/x", 13<<20), volume("a/y", 4<<20)}, ""}, // 16 + 4
		{[]Volume{volume("a/x", 13<<20), volume("a/y", 5<<20)}, "volume group a has 60 MiB free, copy-on-write areas need 24 MiB, and 50% are to be kept in reserve"},
		{[]Volume{volume("a/x", 4<<20), volume("b/x", 4<<20)}, ""},
		{[]Volume{volume("a/x", 4<<20), volume("b/x", 5<<20)}, "(add a disk: vgextend b DEVICE)"},
		{[]Volume{volume("a/x", math.MaxUint64)}, "need"},
	} {
		err := p.room(inventory, c.vols)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, ErrNoRoom) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.vols, err, c.want)
		}
	}
	if err := p.room(inventory, []Volume{volume("c/x", 1)}); err == nil || errors.Is(err, ErrNoRoom) {
		t.Errorf("a group that does not exist: %v", err)
	}
}

func TestNotShared(t *testing.T) {
	inventory := &lvm.Inventory{VGs: []lvm.VG{{Name: "own"}, {Name: "shared", Shared: true}}}
	if err := notShared(inventory, []Volume{{Name: "own/x"}}); err != nil {
		t.Error(err)
	}
	if err := notShared(inventory, []Volume{{Name: "own/x"}, {Name: "shared/x"}}); err == nil || !strings.Contains(err.Error(), "group shared is shared") {
		t.Errorf("got %v", err)
	}
}

func TestPublicLV(t *testing.T) {
	const ids = "LVM-LxapUgnkISulLRDGk8vqdk6zIrdYSn7dCZqo4QmnH3actFlOsxUPjiqTrfty5BO8"
	for _, c := range []struct{ device, uuid, want string }{
		{"vg-lv", ids, "vg/lv"},
		{"v--g-l--v", ids, "v-g/l-v"},
		{"vg-lv", "", ""},
		{"vg-lv", "CRYPT-LUKS2-x", ""},
		{"vg-lv-real", ids + "-real", ""},
		{"vg-lv-cow", ids + "-cow", ""},
		{"vg-pool_tdata", ids + "-tdata", ""},
		{"vg-lv_rimage_0", ids, ""}, // LVM gives it no suffix
		{"vg-lv_mlog", ids, ""},
		{"vg-pvmove0", ids, ""},
		{"lv", ids, ""},
	} {
		if got, err := publicLV(Volume{Device: c.device, UUID: c.uuid}); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s %s: %q, %v, want %q", c.device, c.uuid, got, err, c.want)
		}
	}
}

func TestPlain(t *testing.T) {
	for types, want := range map[string]string{
		"linear": "", "striped": "", "raid": "", "mirror": "", "linear linear striped": "",
		"": "no table", "snapshot": "itself a thick snapshot", "snapshot-merge": "being merged", "thin": "a thin volume",
		"thin-pool": "a thin pool", "cache": "cached", "writecache": "cached", "linear error": "missing", "crypt": "by crypt", "vdo": "by vdo",
	} {
		var table []dm.Target
		for _, x := range strings.Fields(types) {
			table = append(table, dm.Target{Type: x})
		}
		if err := plain(table); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", types, err, want)
		}
	}
}
