package dm

import (
	"reflect"
	"strings"
	"testing"
)

func TestGroups(t *testing.T) {
	id := func(c string) string { return strings.Repeat(c, lvmUUID) }
	lv := func(group, name, part string) string { return "LVM-" + id(group) + id(name) + part }
	list := []ListEntry{
		{"vg-v", lv("a", "v", ""), 1, 0},
		{"vg-pool", lv("a", "p", "-pool"), 2, 0},
		{"vg-pool-tpool", lv("a", "p", "-tpool"), 3, 0},
		{"vg-pool_tdata", lv("a", "d", "-tdata"), 4, 0},
		{"vg-plain", lv("a", "w", ""), 5, 0},
		{"vg-plain-real", lv("a", "w", "-real"), 6, 0},
		{"b--b-root", lv("b", "r", ""), 7, 0},
		{"luks", "CRYPT-LUKS2-x", 8, 0},
		{"old", "LVM-short", 9, 0},
	}
	disk1, disk2 := MkDev(8, 1), MkDev(8, 2)
	got := groups(list, map[Dev][]Dev{1: {3}, 2: {3}, 3: {4}, 4: {disk1}, 5: {6}, 6: {disk1, disk2}, 7: {8, 6}, 8: {disk2}})
	want := []Group{
		{UUID: id("b"), Name: "b-b", Disks: []Dev{6, 8}, Plain: []Dev{7}}, // on another group's volume, and on an encrypted disk
		{UUID: id("a"), Name: "vg", Disks: []Dev{disk1, disk2}, Thin: []Dev{1}, Plain: []Dev{5}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}
