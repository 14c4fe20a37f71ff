//go:build lab

package system

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

// Somebody else removes snapshots: metrics, listing and page tell of that without any change of Fermata's own, and what is left of the
// sets can still be deleted.
func TestOutside(t *testing.T) {
	vols := thinVolumes(t, 2)
	thick, raw := thickVolume(t, "x", "64m", "ext4"), dmVolume(t, "plain", 64)
	configure(t, map[string]string{
		"policies.d/two.yaml":   "volumes: [" + vols[0].Point + ", " + vols[1].Point + "]\n",
		"policies.d/thick.yaml": "volumes: [" + thick.Point + "]\n",
		"policies.d/dm.yaml":    "volumes: [" + raw.Point + "]\n",
	})
	labtest.Run(t, "ip", "link", "set", "lo", "up")
	labtest.Run(t, "systemctl", "start", "fermata-exporter.socket")
	t.Cleanup(func() { labtest.Run(t, "systemctl", "stop", "fermata-exporter.socket", "fermata-exporter.service") })
	two, other := create(t, "--policy", "two"), create(t, "--policy", "two")
	ofThick, ofDM := create(t, "--policy", "thick"), create(t, "--policy", "dm")
	is(t, `fermata_snapshot_sets{policy="two"}`, 2)
	is(t, `fermata_snapshot_sets_damaged{policy="two"}`, 0)
	is(t, `fermata_cow_areas{volume="`+ofDM.Volumes[0].Volume+`"}`, 1) // not somebody else's

	removed := time.Now()
	labtest.Run(t, "lvremove", "-qq", "-y", two.Volumes[0].Name, other.Volumes[1].Name)
	is(t, `fermata_snapshot_sets_damaged{policy="two"}`, 2)
	t.Logf("known %v after it was removed", time.Since(removed).Round(100*time.Millisecond))
	is(t, `fermata_policy_last_success_timestamp_seconds{policy="two"}`, 0)
	for _, m := range sets(t) {
		if damaged := m.State == api.Damaged; damaged != (m.Policy == "two") {
			t.Errorf("listed: %+v", m)
		}
	}
	if got := page(t, 200); !strings.Contains(got, "damaged") {
		t.Errorf("the status page:\n%s", got)
	}
	if log := journal(t); !strings.Contains(log, "set "+two.ID+` of policy \"two\" is damaged: 1 of 2 snapshots exist`) {
		t.Errorf("the journal does not tell:\n%s", log)
	}
	must(t, "snapshot", "delete", two.ID)

	labtest.Run(t, "lvremove", "-qq", "-y", ofThick.Volumes[0].Name)
	is(t, `fermata_snapshot_sets{policy="thick"}`, 0)
	labtest.Run(t, "dmsetup", "remove", "--retry", "fermata@"+ofDM.Volumes[0].Name)
	is(t, `fermata_snapshot_sets{policy="dm"}`, 0)
	if list := sets(t); len(list) != 1 || list[0].ID != other.ID {
		t.Errorf("listed: %+v", list)
	}
}

// What somebody has open is dropped neither by its policy nor for the room of its pool, until it is closed.
func TestInUse(t *testing.T) {
	vol := thinVolumes(t, 1)[0]
	thick, raw := thickVolume(t, "x", "64m", "ext4"), dmVolume(t, "plain", 64)
	files := map[string]string{"fermata.yaml": "pools:\n  data: {warning: 1%, critical: 90%}\n  delete: {dropped: warning}\n"}
	points := map[string]string{"thin": vol.Point, "thick": thick.Point, "dm": raw.Point}
	for kind, point := range points {
		files["policies.d/"+kind+".yaml"] = "volumes: [" + point + "]\ncow: 16M\nretention: {keep_last: 1}\n"
	}
	hold := map[string]string{}
	device := func(m api.Manifest) string {
		if m.Policy == "dm" {
			return "/dev/mapper/fermata@" + m.Volumes[0].Name
		}
		if m.Policy == "thin" { // the others are always active
			labtest.Run(t, "lvchange", "-qq", "-ay", "-K", m.Volumes[0].Name)
		}
		return "/dev/" + m.Volumes[0].Name
	}
	quiet := map[string]string{} // without the act, which is quicker than we are
	for name, text := range files {
		quiet[name] = text
	}
	quiet["fermata.yaml"] = ""
	configure(t, quiet)
	open := map[string]*os.File{}
	for kind := range points {
		m := create(t, "--policy", kind)
		create(t, "--policy", kind)
		f, err := os.Open(device(m))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		hold[kind], open[kind] = m.ID, f
	}
	for kind := range points {
		var verdicts []api.Verdict
		decode(t, must(t, "policy", "prune", kind, "--json"), &verdicts)
		if len(verdicts) != 2 || !verdicts[1].Keep || verdicts[1].ID != hold[kind] || !slices.Contains(verdicts[1].Reasons, "it is in use") {
			t.Errorf("%s, pruned while it is open: %+v", kind, verdicts)
		}
	}
	exists := func(kind string) bool {
		return slices.ContainsFunc(sets(t), func(m api.Manifest) bool { return m.ID == hold[kind] })
	}
	configure(t, files)
	is(t, `fermata_pool_acts_total{act="delete",outcome="nothing",pool="vg/pool"}`, 1)
	if !exists("thin") {
		t.Error("a set was deleted for the room of the pool while it was open")
	}
	for _, f := range open {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	configure(t, files) // what found nothing to do is tried again after a minute, or by a new daemon
	is(t, `fermata_pool_acts_total{act="delete",outcome="ok",pool="vg/pool"}`, 1)
	for kind := range points {
		must(t, "policy", "prune", kind)
		if exists(kind) {
			t.Errorf("%s: the set that is closed was not dropped", kind)
		}
	}
}
