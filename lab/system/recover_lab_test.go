//go:build lab

package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

const postgresPrograms = "/usr/lib/postgresql/15/bin/"

// postgresSet sets up a cluster on a thin volume, with somebody committing to it, whose writer takes the phases beside a set.
func postgresSet(t *testing.T, keys string) (load *postgres, point string) {
	t.Helper()
	vols := thinVolumes(t, 1)
	point = vols[0].Point
	configure(t, map[string]string{
		"policies.d/db.yaml": "volumes: [" + point + "]\nwriters: [pg]\n",
		"writers.d/pg.yaml":  "session: [fermata-writer, postgresql]\nuser: postgres\n" + keys,
	})
	load = startPostgres(t, point)
	load.committing(t)
	return load, point
}

// stateOf is what pg_controldata says of a cluster.
func stateOf(t *testing.T, data string) string {
	t.Helper()
	for line := range strings.Lines(labtest.Run(t, postgresPrograms+"pg_controldata", "-D", data)) {
		if state, ok := strings.CutPrefix(line, "Database cluster state:"); ok {
			return strings.TrimSpace(state)
		}
	}
	t.Fatalf("pg_controldata tells no state of %s", data)
	return ""
}

// The server recovers on the snapshot, where nothing of the host can be reached; what is kept of that is read-only, and was
// shut down in an orderly way. The live server notices nothing.
//
// Then it is verified: a server can be had from it, and not any more when a page is overwritten.
func TestRecoverPostgreSQL(t *testing.T) {
	load, point := postgresSet(t, "recover: true\nverify: true\ncomponents: [{name: cluster, paths: [/srv/v1/pg]}]\n")
	m := create(t, "--policy", "db")
	load.committing(t)
	table := strings.TrimSpace(labtest.Run(t, "env", "-C", "/", "runuser", "-u", "postgres", "--", "psql", "-h", "/run/postgresql", "-Atc", "select pg_relation_filepath('t')"))
	if len(m.Writers) != 1 || m.Consistency != api.Application {
		t.Fatalf("got %+v", m)
	}
	if data, _ := m.Writers[0].Data["recover"].(map[string]any); data["recovered"] != true {
		t.Errorf("the writer said %v", m.Writers[0].Data)
	}
	if attr := strings.TrimSpace(labtest.Run(t, "lvs", "--noheadings", "-o", "lv_attr", m.Volumes[0].Name)); attr[1] != 'r' || attr[4] != '-' {
		t.Errorf("the snapshot is %s", attr)
	}
	must(t, "snapshot", "mount", m.ID)
	image := filepath.Join(mounted(t, m.ID, point), "pg")
	if got := stateOf(t, image); got != "shut down" {
		t.Errorf("the image is %q", got)
	}
	if got := stateOf(t, filepath.Join(point, "pg")); got != "in production" {
		t.Errorf("the live cluster is %q", got)
	}
	if _, err := os.Stat(filepath.Join(image, "postmaster.pid")); err == nil {
		t.Error("the image has a server")
	}
	must(t, "snapshot", "umount", m.ID)

	before := snapshotLVs(t)
	var v api.Verification
	decode(t, must(t, "snapshot", "verify", m.ID, "--json"), &v)
	if !v.OK || len(v.Checks) != 1 || v.Checks[0].Writer != "pg" || !strings.Contains(fmt.Sprint(v.Checks[0].Data), "pg_amcheck") {
		t.Errorf("verified: %+v", v)
	}
	damage(t, m.Volumes[0].Name, "pg/"+table)
	a := fermata(t, "snapshot", "verify", m.ID)
	if a.status != 1 || !strings.Contains(a.stdout, "pg_amcheck") {
		t.Errorf("a damaged set: exit status %d: %s%s", a.status, a.stdout, a.stderr)
	}
	decode(t, must(t, "snapshot", "show", m.ID, "--json"), &m)
	if m.Verified == nil || m.Verified.OK {
		t.Errorf("the manifest has %+v", m.Verified)
	}
	if after := snapshotLVs(t); after != before {
		t.Errorf("left behind: %s, before %s", after, before)
	}
	load.committing(t)
}

// damage overwrites the first page of a file in a snapshot.
func damage(t *testing.T, lv, file string) {
	t.Helper()
	dir := t.TempDir()
	labtest.Run(t, "lvchange", "--permission", "rw", lv)
	labtest.Run(t, "lvchange", "-ay", "-K", lv)
	labtest.Run(t, "mount", "/dev/"+lv, dir)
	defer labtest.Run(t, "lvchange", "--permission", "r", lv)
	defer labtest.Run(t, "lvchange", "-an", lv)
	defer labtest.Run(t, "umount", dir)
	labtest.Run(t, "dd", "if=/dev/urandom", "of="+filepath.Join(dir, file), "bs=8k", "count=1", "conv=notrunc")
}

// A recovery that takes too long is ended, with everything that it has started, and the set is not made. So it is if the
// daemon is killed meanwhile, by the next one.
func TestRecoverEnds(t *testing.T) {
	vols := thinVolumes(t, 1)
	hang := "/usr/local/libexec/fermata/hang"
	if err := os.MkdirAll(filepath.Dir(hang), 0o755); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\ntouch " + vols[0].Point + "/here /run/there\nsetsid sleep 1234 &\ntouch /usr/everywhere\nexec sleep 1234\n"
	if err := os.WriteFile(hang, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(hang) })
	hanging := "commands: {freeze: [/bin/true], thaw: [/bin/true], recover: [" + hang + "]}\n"
	configure(t, map[string]string{
		"policies.d/hang.yaml": "volumes: [" + vols[0].Point + "]\nwriters: [w]\n",
		"policies.d/long.yaml": "volumes: [" + vols[0].Point + "]\nwriters: [x]\n",
		"writers.d/w.yaml":     hanging + "timeouts: {recover: 2s}\n",
		"writers.d/x.yaml":     hanging,
	})
	a := fermata(t, "snapshot", "create", "--policy", "hang")
	if a.status == 0 || !strings.Contains(a.stderr, "did not end within 2s") || !strings.Contains(a.stderr, "everywhere") {
		t.Errorf("status %d: %s", a.status, a.stderr)
	}
	runs := func() bool { _, status := labtest.Try(t, "pgrep", "-fx", "sleep 1234"); return status == 0 }
	if runs() {
		t.Error("it still runs")
	}
	if left := snapshotLVs(t); left != "" {
		t.Errorf("left behind: %s", left)
	}

	c := exec.Command("fermata", "snapshot", "create", "--policy", "long")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it runs", runs)
	labtest.Run(t, "pkill", "-KILL", "-x", "fermatad")
	if c.Wait() == nil {
		t.Error("the set was made")
	}
	eventually(t, "the next daemon answers", func() bool { return fermata(t, "snapshot", "list").status == 0 })
	if runs() {
		t.Error("it still runs")
	}
	for _, path := range []string{vols[0].Point + "/here", "/run/there", "/usr/everywhere"} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is on the host", path)
			os.Remove(path)
		}
	}
	if left := snapshotLVs(t); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

// A set without writers is verified by the checkers of its filesystems, which find what is damaged.
func TestVerifyFilesystems(t *testing.T) {
	points := points(append(thinVolumes(t, 1), labtest.Thin(t, "vg", "x", "320m", "xfs")))
	m := create(t, points...)
	before := snapshotLVs(t)
	var v api.Verification
	decode(t, must(t, "snapshot", "verify", m.ID, "--json"), &v)
	if !v.OK || len(v.Checks) != 2 {
		t.Errorf("verified: %+v", v)
	}
	ext4 := m.Volumes[slices.IndexFunc(m.Volumes, func(x api.Snapshot) bool { return x.FSType == "ext4" })].Name
	labtest.Run(t, "lvchange", "--permission", "rw", ext4)
	labtest.Run(t, "lvchange", "-ay", "-K", ext4)
	labtest.Run(t, "debugfs", "-w", "-R", "clri <2>", "/dev/"+ext4) // the root directory
	labtest.Run(t, "lvchange", "-an", ext4)
	labtest.Run(t, "lvchange", "--permission", "r", ext4)
	if a := fermata(t, "snapshot", "verify", m.ID); a.status != 1 || !strings.Contains(a.stdout, "filesystem of "+points[0]) || !strings.Contains(a.stderr, "1 of 2 checks failed") {
		t.Errorf("a damaged set: exit status %d: %s%s", a.status, a.stdout, a.stderr)
	}
	if after := snapshotLVs(t); after != before {
		t.Errorf("left behind: %s, before %s", after, before)
	}
}
