//go:build lab

package metadata

import (
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/lab/labtest"
)

// newest is what is read of several disks; none of them matters that has no metadata.
func newest(t testing.TB, disks ...string) (g Group) {
	t.Helper()
	for _, path := range disks {
		var s unix.Stat_t
		if err := unix.Stat(path, &s); err != nil {
			t.Fatal(err)
		}
		d, err := Open(dm.Dev(s.Rdev))
		if err != nil {
			t.Fatal(err)
		}
		texts, err := Find(d)
		if err != nil {
			t.Logf("%s: %v", path, err)
		}
		for _, text := range texts {
			got, err := text.Group(d, nil)
			if err != nil {
				t.Errorf("%s: %v", path, err)
			}
			if got.Seqno > g.Seqno {
				g = got
			}
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	return g
}

// like compares with what LVM says.
func like(t testing.TB, what string, disks ...string) Group {
	t.Helper()
	g := newest(t, disks...)
	out := labtest.Run(t, "vgs", "--noheadings", "--nosuffix", "--units", "b", "--separator", "|",
		"-o", "vg_name,vg_uuid,vg_seqno,vg_extent_size,vg_extent_count,vg_free_count", "lvm-test")
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	want := strings.TrimSpace(out)
	if got := strings.Join([]string{g.Name, g.UUID, number(g.Seqno), number(g.Extent), number(g.Extents), number(g.Free)}, "|"); got != want {
		t.Errorf("%s: read %s\nLVM says %s", what, got, want)
	}
	return g
}

// What LVM does to a group is read as LVM reads it, also where the text has gone round its ring.
func TestLikeLVM(t *testing.T) {
	labtest.CheckClean(t)
	disks := labtest.Disks(t)[:2]
	t.Cleanup(func() {
		labtest.Run(t, "vgremove", "-qq", "-ff", "-y", "lvm-test")
		labtest.Run(t, append([]string{"pvremove", "-qq", "-ff", "-y"}, disks...)...)
	})
	labtest.Run(t, "pvcreate", "-qq", "-ff", "-y", "--metadatasize", "64k", "--metadatacopies", "2", disks[0])
	labtest.Run(t, "pvcreate", "-qq", "-ff", "-y", disks[1])
	labtest.Run(t, "vgcreate", "-qq", "-s", "2m", "lvm-test", disks[0])
	like(t, "one disk", disks...)
	labtest.Run(t, "vgextend", "-qq", "lvm-test", disks[1])
	like(t, "two disks", disks...)
	for _, step := range []string{
		"lvcreate -y -Wn -L 10m -n plain lvm-test",
		"lvcreate -y -Wn -L 20m -i 2 -n striped lvm-test",
		"lvcreate -y -Wn -L 10m --type mirror -m 1 --mirrorlog core --nosync -n mirrored lvm-test",
		"lvcreate -y -L 100m --thinpool lvm-test/pool -Zn --poolmetadatasize 4m",
		"lvcreate -y -V 1g --thin -n v lvm-test/pool",
		"lvcreate -s -n s lvm-test/v",
		"lvcreate -y -s -L 8m -n cow lvm-test/plain",
		"lvextend -L +10m lvm-test/striped",
		"lvchange --addtag a.b+c lvm-test/v",
		"lvremove -y lvm-test/cow",
		"vgchange --vgmetadatacopies 1 lvm-test",
		"vgchange --vgmetadatacopies all lvm-test",
	} {
		labtest.Run(t, append(strings.Fields(step), "-qq")...)
		like(t, step, disks...)
	}
	for i := range 12 { // round the ring of 64 KiB
		labtest.Run(t, "lvchange", "-qq", "--addtag", "t"+strconv.Itoa(i), "lvm-test/plain")
		like(t, "tag "+strconv.Itoa(i), disks...)
	}
	labtest.Run(t, "pvchange", "-qq", "-xn", disks[1])
	before := newest(t, disks...)
	labtest.Run(t, "pvchange", "-qq", "-xy", disks[1])
	if after := like(t, "allocatable again", disks...); before.Free >= after.Free || before.Extents != after.Extents {
		t.Errorf("with a disk that may not be allocated: %v; without: %v", before, after)
	}
}
