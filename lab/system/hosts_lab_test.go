//go:build lab

package system

import (
	"regexp"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

// Another host sees the same volume group: what it has finished is listed and can be deleted, what it has not is left to it.
func TestOtherHost(t *testing.T) {
	vols := thinVolumes(t, 1)
	m := create(t, vols[0].Point)
	lv := m.Volumes[0].Name
	ours := regexp.MustCompile(`fermata\.machine=[0-9a-f]{16}\b`).FindString(labtest.Run(t, "lvs", "--noheadings", "-o", "lv_tags", lv))
	if ours == "" {
		t.Fatalf("its tags name no machine:\n%s", snapshotLVs(t))
	}
	if id := strings.TrimSpace(labtest.Run(t, "cat", "/etc/machine-id")); strings.Contains(id, strings.TrimPrefix(ours, "fermata.machine=")) {
		t.Error("the machine-id itself is told")
	}
	const theirs = "fermata.machine=0123456789abcdef"
	host := "fermata.host=" + strings.TrimSpace(labtest.Run(t, "hostname"))
	labtest.Run(t, "lvchange", "-qq", "--deltag", ours, "--addtag", theirs, "--deltag", host, "--addtag", "fermata.host=elsewhere", lv)
	labtest.Run(t, "mv", "/var/lib/fermata/sets", "/var/lib/fermata/sets.away")
	t.Cleanup(func() { labtest.Run(t, "rm", "-rf", "/var/lib/fermata/sets.away") })

	// A set that the other host takes at this moment, or has left.
	half := "20260101T000000_0001"
	labtest.Run(t, "lvcreate", "-qq", "-y", "-s", "-an", "-ky", "-n", "v1."+half, "--addtag", "fermata.armed", "--addtag", "fermata.set="+half,
		"--addtag", "fermata.members=1", "--addtag", "fermata.origin=vg/v1", "--addtag", theirs, "--addtag", "fermata.host=elsewhere", "vg/v1")
	labtest.Run(t, "systemctl", "restart", "fermatad")
	list := sets(t)
	if len(list) != 1 || list[0].ID != m.ID || list[0].State != api.Complete || list[0].Host != "elsewhere" {
		t.Fatalf("got %+v", list)
	}
	if out := must(t, "status"); !strings.Contains(out, "unfinished snapshots of host elsewhere are left to it: vg/v1."+half) {
		t.Errorf("status says:\n%s", out)
	}
	must(t, "snapshot", "delete", create(t, vols[0].Point).ID)
	if out := snapshotLVs(t); !strings.Contains(out, "v1."+half) {
		t.Errorf("another host's snapshot was removed:\n%s", out)
	}
	must(t, "snapshot", "delete", m.ID)
	if list := sets(t); len(list) != 0 {
		t.Errorf("left: %+v", list)
	}
	labtest.Run(t, "lvchange", "-qq", "--deltag", theirs, "--addtag", ours, "vg/v1."+half)
	labtest.Run(t, "systemctl", "restart", "fermatad")
	must(t, "snapshot", "list")
	if out := snapshotLVs(t); out != "" {
		t.Errorf("half-made, ours, and left:\n%s", out)
	}
}
