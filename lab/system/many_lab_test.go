//go:build lab

package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/lab/labtest"
)

// manyThin makes volume group many, of thin pools of 20 GiB with snapshots in them that are Fermata's by their tags: what of them is
// used is on the second disk, where LVM does not see it, the rest of the group is zeros. LVM would take half an hour to make them one by one, so its metadata are
// written at once. The snapshots are inactive, as Fermata's are.
func manyThin(t testing.TB, pools, snapshots int) {
	t.Helper()
	const extent, head = 8192, 1 << 20 // sectors: 4 MiB; 512 MiB are real
	const dataExtents = 5120
	disk, extents := labtest.Disks(t)[1], pools*(dataExtents+1)+1
	size := extents*extent + head
	dmsetup(t, "create", "--concise", fmt.Sprintf("many-pv,,,rw,0 %d linear %s 8192,%d %d zero", head, disk, head, size-head))
	t.Cleanup(func() { dmsetup(t, "remove", "--retry", "many-pv") })
	labtest.Run(t, "dd", "if=/dev/zero", "of="+disk, "bs=1M", "count=516", "status=none", "conv=fsync") // pools without a superblock are new
	const pv = "/dev/mapper/many-pv"
	labtest.Run(t, "pvcreate", "-qq", "-ff", "-y", pv)
	labtest.Run(t, "vgcreate", "-qq", "many", pv)
	restore := func(text string) {
		file := filepath.Join(t.TempDir(), "many")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		labtest.Run(t, "vgcfgrestore", "-qq", "--force", "-y", "-f", file, "many")
	}
	backup := filepath.Join(t.TempDir(), "empty")
	labtest.Run(t, "vgcfgbackup", "-qq", "-f", backup, "many")
	empty, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		labtest.Run(t, "vgchange", "-qq", "-an", "many")
		restore(string(empty))
		labtest.Run(t, "vgremove", "-qq", "-ff", "-y", "many")
		labtest.Run(t, "pvremove", "-qq", "-ff", "-y", pv)
	})
	end := strings.LastIndex(string(empty), "}")
	restore(string(empty[:end]) + manyVolumes(pools, snapshots, dataExtents) + "}\n")
	for i := range pools {
		labtest.Run(t, "lvchange", "-qq", "-ay", "--config", `global{thin_check_executable=""}`, fmt.Sprintf("many/pool%d", i))
	}
}

// manyVolumes is the text of the logical volumes: metadata first, for they have to be on the real part.
func manyVolumes(pools, snapshots, dataExtents int) string {
	var b strings.Builder
	n := 0
	volume := func(name string, visible bool, tags []string, segment string) {
		n++
		status := `"READ", "WRITE"`
		if visible {
			status += `, "VISIBLE"`
		}
		flags := ""
		if tags != nil {
			flags = `"ACTIVATION_SKIP"`
		}
		fmt.Fprintf(&b, "%s {\nid = \"%s\"\nstatus = [%s]\nflags = [%s]\n", name, manyID(n), status, flags)
		if tags != nil {
			fmt.Fprintf(&b, "tags = [\"%s\"]\n", strings.Join(tags, `", "`))
		}
		fmt.Fprintf(&b, "segment_count = 1\nsegment1 {\nstart_extent = 0\n%s\n}\n}\n", segment)
	}
	linear := func(at, extents int) string {
		return fmt.Sprintf("extent_count = %d\ntype = \"striped\"\nstripe_count = 1\nstripes = [\"pv0\", %d]", extents, at)
	}
	b.WriteString("logical_volumes {\n")
	for i := range pools {
		volume(fmt.Sprintf("pool%d_tmeta", i), false, nil, linear(i, 1))
		volume(fmt.Sprintf("pool%d_tdata", i), false, nil, linear(pools+1+i*dataExtents, dataExtents))
		volume(fmt.Sprintf("pool%d", i), true, nil, fmt.Sprintf("extent_count = %d\ntype = \"thin-pool\"\nmetadata = \"pool%d_tmeta\"\npool = \"pool%d_tdata\"\ntransaction_id = 0\nchunk_size = 128\ndiscards = \"passdown\"\nzero_new_blocks = 0", dataExtents, i, i))
	}
	for i := range snapshots {
		id := fmt.Sprintf("20260101T%06d_%04x", i, i)
		volume("s"+fmt.Sprint(i), true, []string{"fermata.set=" + id, "fermata.members=1", "fermata.origin=many/v", "fermata.policy=many", "fermata.consistency=crash", "fermata.created=" + fmt.Sprint(1767225600e6+i)},
			fmt.Sprintf("extent_count = 256\ntype = \"thin\"\nthin_pool = \"pool%d\"\ntransaction_id = 0\ndevice_id = %d", i%pools, i/pools+1))
	}
	b.WriteString("}\n")
	return b.String()
}

// manyID is a UUID as LVM writes it.
func manyID(n int) string {
	d := fmt.Sprintf("many%028d", n)
	return strings.Join([]string{d[:6], d[6:10], d[10:14], d[14:18], d[18:22], d[22:26], d[26:]}, "-")
}
