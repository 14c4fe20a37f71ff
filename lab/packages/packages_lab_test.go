//go:build lab

package packages

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fermata-project/fermata/lab/labtest"
)

// deb is the package of a version that make packages-lab has made.
func deb(t testing.TB, version string) string {
	t.Helper()
	found, err := filepath.Glob("../../bin/packages/fermata_" + version + "_*.deb")
	if err != nil || len(found) != 1 {
		t.Fatalf("no package of %s (%v): run make packages-lab on the host", version, found)
	}
	return found[0]
}

// dpkg runs it as apt does: nobody is there to be asked.
func dpkg(t testing.TB, args ...string) (out string, status int) {
	t.Helper()
	return labtest.Try(t, append([]string{"env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--force-unsafe-io"}, args...)...)
}

func mustDpkg(t testing.TB, args ...string) string {
	t.Helper()
	out, status := dpkg(t, args...)
	if status != 0 {
		t.Fatalf("dpkg %s: exit status %d:\n%s", strings.Join(args, " "), status, out)
	}
	return out
}

func property(t testing.TB, unit, name string) string {
	t.Helper()
	return strings.TrimSpace(labtest.Run(t, "systemctl", "show", "--value", "-p", name, unit))
}

func write(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func missing(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("%s is still there (%v)", path, err)
	}
}

// snapshots are the logical volumes that belong to sets.
func snapshots(t testing.TB) string {
	t.Helper()
	var names []string
	for line := range strings.Lines(labtest.Run(t, "lvs", "--noheadings", "-o", "lv_name,lv_tags")) {
		if name, tags, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.Contains(tags, "fermata.") {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// goOn is the file without which writer slow does not get ready.
const goOn = "/run/slow-go-on"

const slowWriter = `#!/bin/sh
while read -r phase rest; do
	if [ "$phase" = prepare ]; then
		while ! [ -e ` + goOn + ` ]; do sleep 0.1; done
	fi
	echo ok
done
`

// The life of a package on a host that takes sets.
func TestPackages(t *testing.T) {
	os.Remove("/var/lib/man-db/auto-update") // dpkg would index the manual each time
	labtest.ThinVG(t, "vg", "500m")
	v := labtest.Thin(t, "vg", "data", "200m", "ext4")
	t.Cleanup(func() { dpkg(t, "--purge", "fermata") })

	out := mustDpkg(t, "-i", deb(t, "0.0.1"))
	for _, unit := range []string{"fermatad.service", "fermata-guard.socket"} {
		if a, e := property(t, unit, "ActiveState"), property(t, unit, "UnitFileState"); a != "active" || e != "enabled" {
			t.Errorf("after the installation %s is %s, %s:\n%s", unit, a, e, out)
		}
	}
	labtest.Run(t, "fermata", "config", "check")

	write(t, "/etc/fermata/fermata.yaml", "log_level: debug\n", 0o644)
	write(t, "/usr/local/libexec/fermata/slow", slowWriter, 0o755)
	write(t, "/etc/fermata/writers.d/slow.yaml", "session: [/usr/local/libexec/fermata/slow]\n", 0o644)
	write(t, "/etc/fermata/policies.d/slow.yaml", "volumes: ["+v.Point+"]\nwriters: [slow]\n", 0o644)
	labtest.Run(t, "systemctl", "restart", "fermatad")
	finished := strings.TrimSpace(labtest.Run(t, "fermata", "snapshot", "create", "-q", v.Point))

	t.Run("completion", func(t *testing.T) { completions(t, finished) })
	t.Run("while a set is taken", func(t *testing.T) { during(t, v) })

	if got := labtest.Run(t, "fermata", "snapshot", "list", "-q"); strings.TrimSpace(got) != finished {
		t.Errorf("after the upgrades there are the sets %q, want %s", got, finished)
	}
	if text, err := os.ReadFile("/etc/fermata/fermata.yaml"); err != nil || string(text) != "log_level: debug\n" {
		t.Errorf("an upgrade has changed the configuration: %q, %v", text, err)
	}

	out = mustDpkg(t, "-r", "fermata")
	if !strings.Contains(out, "1 snapshot set(s) stay") {
		t.Errorf("the removal does not tell of the set:\n%s", out)
	}
	for _, unit := range []string{"fermatad.service", "fermata-guard.service", "fermata-guard.socket"} {
		if a := property(t, unit, "ActiveState"); a != "inactive" {
			t.Errorf("after the removal %s is %s", unit, a)
		}
	}
	missing(t, "/usr/bin/fermata")
	labtest.Run(t, "test", "-e", "/etc/fermata/fermata.yaml", "-a", "-e", "/var/lib/fermata")
	for _, name := range []string{"writers.d/slow.yaml", "policies.d/slow.yaml"} {
		if err := os.Remove("/etc/fermata/" + name); err != nil {
			t.Error(err)
		}
	}
	out = mustDpkg(t, "--purge", "fermata")
	if !strings.Contains(out, "1 snapshot(s) of Fermata's are left") {
		t.Errorf("the purge does not tell of the snapshot:\n%s", out)
	}
	missing(t, "/etc/fermata")
	missing(t, "/var/lib/fermata")
	if got := snapshots(t); !strings.Contains(got, finished) {
		t.Errorf("the purge has left the snapshots %q", got)
	}
	v.Writable(t)
}

// during upgrades and removes the package while a set is being taken. No set is lost by it.
func during(t *testing.T, v labtest.Volume) {
	for _, c := range []struct {
		name, wait string
		args       []string
		status     int
		says       string
		restarted  bool
	}{
		{"upgrade waits", "300", []string{"-i", deb(t, "0.0.2")}, 0, "waiting for what is being done", true},
		{"upgrade gives up waiting", "1", []string{"-i", deb(t, "0.0.1")}, 0, "the daemon goes on as it was", false},
		{"removal is refused", "1", []string{"-r", "fermata"}, 1, "not removed", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := property(t, "fermatad", "MainPID")
			set := exec.Command("fermata", "snapshot", "create", "-q", "--policy", "slow")
			var id strings.Builder
			set.Stdout, set.Stderr = &id, os.Stderr
			if err := set.Start(); err != nil {
				t.Fatal(err)
			}
			defer os.Remove(goOn)
			eventually(t, "a set is being taken", func() bool {
				return strings.Contains(labtest.Run(t, "fermata", "status", "--json"), `"running"`)
			})
			t.Setenv("FERMATA_UPGRADE_WAIT", c.wait)
			change := exec.Command("dpkg", append([]string{"--force-unsafe-io"}, c.args...)...)
			said := &watched{}
			change.Stdout, change.Stderr = said, said
			if err := change.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- change.Wait() }()
			eventually(t, "dpkg says "+c.says, func() bool { return strings.Contains(said.String(), c.says) })
			write(t, goOn, "", 0o644)
			if err := <-ended; change.ProcessState.ExitCode() != c.status {
				t.Errorf("dpkg: %v, want exit status %d:\n%s", err, c.status, said)
			}
			if err := set.Wait(); err != nil {
				t.Errorf("the set has failed: %v\n%s", err, said)
			}
			if now := property(t, "fermatad", "MainPID"); (now != before) != c.restarted {
				t.Errorf("the daemon was process %s, and is %s:\n%s", before, now, said)
			}
			v.Writable(t)
			labtest.Run(t, "fermata", "snapshot", "delete", strings.TrimSpace(id.String()))
		})
	}
}

// watched is output that is looked at while it is written.
type watched struct {
	mu   sync.Mutex
	text strings.Builder
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !f(); time.Sleep(500 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it has not come to this: %s", what)
		}
	}
}
