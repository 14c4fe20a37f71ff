//go:build lab

package system

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

// answer is what the CLI said.
type answer struct {
	stdout, stderr string
	status         int
}

// fermata runs the CLI.
func fermata(t testing.TB, args ...string) answer {
	t.Helper()
	c := exec.Command("fermata", args...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	if c.ProcessState == nil {
		t.Fatalf("cannot run fermata: %v", err)
	}
	return answer{stdout.String(), stderr.String(), c.ProcessState.ExitCode()}
}

// must runs the CLI and expects status 0.
func must(t testing.TB, args ...string) string {
	t.Helper()
	a := fermata(t, args...)
	if a.status != 0 {
		t.Fatalf("fermata %s: exit status %d\n%s%s\n%s", strings.Join(args, " "), a.status, a.stdout, a.stderr, journal(t))
	}
	return a.stdout
}

// create takes a set, and deletes it after the test.
func create(t testing.TB, args ...string) api.Manifest {
	t.Helper()
	var m api.Manifest
	decode(t, must(t, append([]string{"snapshot", "create", "--json"}, args...)...), &m)
	t.Cleanup(func() { fermata(t, "snapshot", "delete", m.ID) })
	return m
}

func sets(t testing.TB) []api.Manifest {
	t.Helper()
	var list []api.Manifest
	decode(t, must(t, "snapshot", "list", "--json"), &list)
	return list
}

func decode(t testing.TB, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("cannot read %q: %v", text, err)
	}
}

// journal is what the daemon and the guard have logged.
func journal(t testing.TB) string {
	out, _ := labtest.Try(t, "journalctl", "-u", "fermatad", "-u", "fermata-guard", "--no-pager", "-n", "60", "-o", "cat")
	return out
}

// configure writes configuration files (path below /etc/fermata → text) and has the daemon read them; after the test
// they are gone again.
func configure(t testing.TB, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join("/etc/fermata", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	restart := func() { labtest.Run(t, "systemctl", "restart", "fermatad") }
	t.Cleanup(func() {
		for name := range files {
			os.Remove(filepath.Join("/etc/fermata", name))
		}
		restart()
	})
	restart()
}

// thinVolumes makes volume group vg with n thin ext4 volumes v1, v2, … of 256 MiB, mounted at /srv/v1, /srv/v2, ….
func thinVolumes(t testing.TB, n int) []labtest.Volume {
	t.Helper()
	labtest.CheckClean(t)
	labtest.Run(t, "systemctl", "start", "fermata-guard.socket")
	labtest.ThinVG(t, "vg", "1500m")
	var vols []labtest.Volume
	for i := range n {
		vols = append(vols, labtest.Thin(t, "vg", "v"+string(rune('1'+i)), "256m", "ext4"))
	}
	return vols
}

func points(vols []labtest.Volume) []string {
	var out []string
	for _, v := range vols {
		out = append(out, v.Point)
	}
	return out
}

// snapshotLVs lists the logical volumes that carry a tag of Fermata.
func snapshotLVs(t testing.TB) string {
	t.Helper()
	var ours []string
	for line := range strings.Lines(labtest.Run(t, "lvs", "--noheadings", "-o", "lv_name,lv_tags")) {
		if strings.Contains(line, "fermata.") {
			ours = append(ours, strings.TrimSpace(line))
		}
	}
	return strings.Join(ours, "\n")
}

// eventually waits for something for at most a minute: guests can be slow.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within a minute\n%s", what, journal(t))
		}
	}
}

func mounted(t testing.TB, id, point string) string {
	t.Helper()
	var m api.Manifest
	decode(t, must(t, "snapshot", "show", id, "--json"), &m)
	for _, x := range m.Mounts {
		if x.MountPoint == point {
			return x.Path
		}
	}
	t.Fatalf("set %s has no mount of %s: %+v", id, point, m.Mounts)
	return ""
}

// problems are what the status tells.
func problems(t testing.TB) string {
	t.Helper()
	var s api.Status
	decode(t, must(t, "status", "--json"), &s)
	return strings.Join(s.Problems, "\n")
}
