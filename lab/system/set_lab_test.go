//go:build lab

package system

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

// A set has what was written before the freeze, arming included, and nothing that was written after the thaw.
func TestInstant(t *testing.T) {
	vols := thinVolumes(t, 2)
	script := `#!/bin/sh
case $FERMATA_PHASE in
freeze) echo armed > /srv/v1/armed; echo armed > /srv/v2/armed;;
thaw) echo thawed > /srv/v1/thawed; echo thawed > /srv/v2/thawed;;
esac
`
	if err := os.WriteFile("/usr/local/bin/instant", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove("/usr/local/bin/instant")
	configure(t, map[string]string{
		"policies.d/p.yaml": "volumes: [/srv/v1, /srv/v2]\nwriters: [w]\n",
		"writers.d/w.yaml":  "commands:\n  freeze: [/usr/local/bin/instant]\n  thaw: [/usr/local/bin/instant]\n",
	})
	m := create(t, "--policy", "p")
	if m.Consistency != api.Application || m.State != api.Complete || len(m.Reasons) != 0 {
		t.Errorf("got %s, %s, %v", m.Consistency, m.State, m.Reasons)
	}
	if len(m.Writers) != 1 || m.Writers[0].State != "released" {
		t.Errorf("writers: got %+v", m.Writers)
	}
	must(t, "snapshot", "mount", m.ID)
	for _, v := range vols {
		at := mounted(t, m.ID, v.Point)
		if b, err := os.ReadFile(filepath.Join(at, "armed")); err != nil || string(b) != "armed\n" {
			t.Errorf("%s: what was written after arming and before the freeze: got %q, %v", v.Point, b, err)
		}
		if _, err := os.Stat(filepath.Join(at, "thawed")); err == nil {
			t.Errorf("%s: what was written after the thaw is in the set", v.Point)
		}
		if _, err := os.Stat(filepath.Join(v.Point, "thawed")); err != nil {
			t.Errorf("the thaw was not told: %v", err)
		}
	}
	must(t, "snapshot", "umount", m.ID)
	must(t, "snapshot", "delete", m.ID)
	if left := snapshotLVs(t); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

// XFS and ext4 in one set; read-only and writable mounts; the set itself never changes.
func TestMount(t *testing.T) {
	vols := thinVolumes(t, 1)
	vols = append(vols, labtest.Thin(t, "vg", "x", "320m", "xfs"))
	for _, v := range vols {
		if err := os.WriteFile(filepath.Join(v.Point, "f"), []byte("1"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m := create(t, points(vols)...)
	for _, writable := range []bool{false, true, false} {
		args := []string{"snapshot", "mount", m.ID}
		if writable {
			args = append(args, "--writable")
		}
		must(t, args...)
		if a := fermata(t, args...); a.status == 0 {
			t.Error("mounted twice")
		}
		for _, v := range vols {
			f := filepath.Join(mounted(t, m.ID, v.Point), "f")
			if b, err := os.ReadFile(f); err != nil || string(b) != "1" {
				t.Errorf("%s: got %q, %v", f, b, err)
			}
			if err := os.WriteFile(f, []byte("2"), 0o644); (err == nil) != writable {
				t.Errorf("%s: writable %v: %v", f, writable, err)
			}
		}
		must(t, "snapshot", "umount", m.ID)
	}
	// Mounted elsewhere, nothing that was made for it stays.
	at := t.TempDir()
	must(t, "snapshot", "mount", m.ID, "--at", at)
	if b, err := os.ReadFile(filepath.Join(at, vols[0].Point, "f")); err != nil || string(b) != "1" {
		t.Errorf("--at: got %q, %v", b, err)
	}
	must(t, "snapshot", "umount", m.ID)
	if entries, err := os.ReadDir(at); err != nil || len(entries) != 0 {
		t.Errorf("--at: left behind: %v, %v", entries, err)
	}
	// Deleting unmounts.
	must(t, "snapshot", "mount", m.ID)
	must(t, "snapshot", "delete", m.ID)
	if left := snapshotLVs(t); left != "" {
		t.Errorf("left behind: %s", left)
	}
	if entries, _ := os.ReadDir("/run/fermata/mnt"); len(entries) != 0 {
		t.Errorf("directories left behind: %v", entries)
	}
}

// What every reading verb says is JSON of the documented types, and true.
func TestInventory(t *testing.T) {
	vols := thinVolumes(t, 1)
	configure(t, map[string]string{
		"policies.d/good.yaml": "volumes: [/srv/v1]\n",
		"policies.d/bad.yaml":  "volumes: [/srv/v1]\nvolume: 3\n",
		"writers.d/w.yaml":     "type: \"null\"\n",
	})
	var pools []api.Pool
	decode(t, must(t, "pool", "list", "--json"), &pools)
	if len(pools) != 1 || pools[0].Name != "vg/pool" || pools[0].Mode != "rw" || pools[0].Size != 1500<<20 || pools[0].Used == 0 {
		t.Errorf("pools: got %+v", pools)
	}
	var volumes []api.Volume
	decode(t, must(t, "volume", "list", "--json"), &volumes)
	found := false
	for _, v := range volumes {
		if v.Name == "vg/v1" {
			found = v.Provider == "thin" && v.Freezable && len(v.MountPoints) == 1 && v.MountPoints[0] == vols[0].Point && len(v.Disks) == 1
		}
	}
	if !found {
		t.Errorf("volumes: got %+v", volumes)
	}
	var providers []api.Provider
	decode(t, must(t, "provider", "list", "--json"), &providers)
	for i, name := range []string{"thin", "thick"} { // in the order of choice
		if len(providers) <= i || providers[i].Name != name || !providers[i].Usable || providers[i].Kind != "built-in" {
			t.Errorf("providers: got %+v", providers)
		}
	}
	var writers []api.Writer
	decode(t, must(t, "writer", "list", "--json"), &writers)
	if len(writers) != 1 || writers[0].Name != "w" {
		t.Errorf("writers: got %+v", writers)
	}
	var status api.Status
	decode(t, must(t, "status", "--json"), &status)
	if status.Guard != "ok" || len(status.Problems) != 1 || !strings.Contains(status.Problems[0], "/etc/fermata/policies.d/bad.yaml:2:1") {
		t.Errorf("status: got %+v", status)
	}
	if a := fermata(t, "config", "check"); a.status != 1 || !strings.Contains(a.stdout+a.stderr, "bad.yaml:2:1") {
		t.Errorf("config check: got %+v", a)
	}
	// The bad file costs that file only.
	create(t, "--policy", "good")
	if a := fermata(t, "snapshot", "create", "--policy", "bad"); a.status != 2 || !strings.Contains(a.stderr, "bad.yaml:2:1") {
		t.Errorf("a disabled policy: got %+v", a)
	}
	if a := fermata(t, "doctor"); a.status != 1 || !strings.Contains(a.stdout, "bad.yaml:2:1") || !strings.Contains(a.stdout, " 1 failed") {
		t.Errorf("doctor: got %+v", a)
	}
	if a := fermata(t, "snapshot", "create", "--dry-run", "--json", "--policy", "good"); a.status != 0 || !strings.Contains(a.stdout, `"planned"`) {
		t.Errorf("dry run: got %+v", a)
	}
	if n := len(sets(t)); n != 1 {
		t.Errorf("%d sets after one set and a dry run", n)
	}
}

// A lost state directory loses no set of any provider, nor where its volumes were mounted, however long the path.
func TestLostStateDirectory(t *testing.T) {
	vols := thinVolumes(t, 2)
	vols = append(vols, thickVolume(t, "x", "320m", "xfs"), dmVolume(t, "plain", 64))
	long := "/srv" + strings.Repeat("/a directory of some length", 30)
	labtest.Run(t, "mkdir", "-p", long)
	labtest.Run(t, "mount", vols[1].Device(), long)
	t.Cleanup(func() {
		labtest.Run(t, "umount", long)
		os.RemoveAll("/srv/a directory of some length")
	})
	labtest.Run(t, "umount", vols[1].Point)
	want := map[string]string{vols[0].Point: "thin", long: "thin", vols[2].Point: "thick", vols[3].Point: "dm"}
	m := create(t, vols[0].Point, long, vols[2].Point, vols[3].Point)
	labtest.Run(t, "systemctl", "stop", "fermatad")
	if err := os.RemoveAll("/var/lib/fermata"); err != nil {
		t.Fatal(err)
	}
	// The bus starts the daemon.
	list := sets(t)
	if len(list) != 1 || list[0].ID != m.ID || list[0].State != api.Complete || list[0].Consistency != api.Filesystem || len(list[0].Volumes) != len(want) {
		t.Fatalf("got %+v", list)
	}
	must(t, "snapshot", "mount", m.ID)
	for point, provider := range want {
		mounted(t, m.ID, point)
		if !slices.ContainsFunc(list[0].Volumes, func(v api.Snapshot) bool { return v.MountPoint == point && v.Provider == provider }) {
			t.Errorf("%s by %s is not in %+v", point, provider, list[0].Volumes)
		}
	}
	must(t, "snapshot", "umount", m.ID)
}

// Two at once: the second waits its turn, or exits 75.
func TestTurns(t *testing.T) {
	thinVolumes(t, 1)
	configure(t, map[string]string{
		"policies.d/slow.yaml": "volumes: [/srv/v1]\nwriters: [slow]\n",
		"writers.d/slow.yaml":  "session: [/usr/bin/fermata-writer, test, --delay, 3s, --delay-at, prepare]\n",
	})
	first := exec.Command("fermata", "snapshot", "create", "--policy", "slow")
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first set has begun", func() bool {
		var s api.Status
		decode(t, must(t, "status", "--json"), &s)
		return s.Running != ""
	})
	if a := fermata(t, "snapshot", "create", "--if-busy", "fail", "/srv/v1"); a.status != 75 || !strings.Contains(a.stderr, "another set") {
		t.Errorf("told not to wait: got %+v", a)
	}
	second := create(t, "/srv/v1")
	if err := first.Wait(); err != nil {
		t.Errorf("the first set: %v", err)
	}
	list := sets(t)
	if len(list) != 2 || list[0].Policy != "slow" || list[1].ID != second.ID || !list[1].Created.After(list[0].Created) {
		t.Errorf("got %+v", list)
	}
	must(t, "snapshot", "delete", list[0].ID)
}
