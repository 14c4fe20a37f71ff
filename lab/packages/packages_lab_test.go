//go:build lab

package packages

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fermata-project/fermata/lab/labtest"
)

// manager is a package manager, as an administrator runs it.
type manager struct {
	// files are the packages in bin/packages: * is for the version.
	files string
	// install is run with the file of a package, for an upgrade too.
	install, remove []string
}

// dpkg is run as apt does: nobody is there to be asked.
var dpkg = manager{
	files:   "fermata_*_*.deb",
	install: []string{"env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--force-unsafe-io", "-i"},
	remove:  []string{"env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "-r", "fermata"},
}

// file is the package of a version that make packages-lab has made.
func (m manager) file(t testing.TB, version string) string {
	t.Helper()
	found, err := filepath.Glob("../../bin/packages/" + strings.Replace(m.files, "*", version, 1))
	if err != nil || len(found) != 1 {
		t.Fatalf("no package of %s (%v): run make packages-lab on the host", version, found)
	}
	return found[0]
}

// to is the command that installs a version, or changes to it.
func (m manager) to(t testing.TB, version string) []string {
	t.Helper()
	return append(slices.Clone(m.install), m.file(t, version))
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

// host is one that takes sets, with a package installed: a volume, a policy, a set of it, and units that somebody has switched on.
type host struct {
	volume labtest.Volume
	set    string
}

// switched are units that an administrator has switched on, of those that are off.
var switched = []string{"fermata-exporter.socket", "fermata-policy-daily@slow.timer"}

const configured = "log_level: debug\n"

// settle installs the older version and makes use of it.
func settle(t *testing.T, m manager) host {
	os.Remove("/var/lib/man-db/auto-update") // dpkg would index the manual each time
	labtest.ThinVG(t, "vg", "500m")
	h := host{volume: labtest.Thin(t, "vg", "data", "200m", "ext4")}
	out := labtest.Run(t, m.to(t, "0.0.1")...)
	t.Cleanup(func() { labtest.Try(t, m.remove...) })
	h.runs(t, "after the installation:\n"+out, "fermatad.service", "fermata-guard.socket")
	labtest.Run(t, "fermata", "config", "check")

	write(t, "/etc/fermata/fermata.yaml", configured, 0o644)
	write(t, "/usr/local/libexec/fermata/slow", slowWriter, 0o755)
	write(t, "/etc/fermata/writers.d/slow.yaml", "session: [/usr/local/libexec/fermata/slow]\n", 0o644)
	write(t, "/etc/fermata/policies.d/slow.yaml", "volumes: ["+h.volume.Point+"]\nwriters: [slow]\n", 0o644)
	labtest.Run(t, "systemctl", "restart", "fermatad")
	labtest.Run(t, append([]string{"systemctl", "enable", "--now"}, switched...)...)
	h.set = strings.TrimSpace(labtest.Run(t, "fermata", "snapshot", "create", "-q", h.volume.Point))
	return h
}

// runs says whether units are active and enabled.
func (h host) runs(t *testing.T, when string, units ...string) {
	t.Helper()
	for _, unit := range units {
		if a, e := property(t, unit, "ActiveState"), property(t, unit, "UnitFileState"); a != "active" || e != "enabled" {
			t.Errorf("%s is %s, %s, %s", unit, a, e, when)
		}
	}
}

// upgraded says whether upgrades have left everything as it was.
func (h host) upgraded(t *testing.T) {
	t.Helper()
	h.runs(t, "after the upgrades", append([]string{"fermatad.service", "fermata-guard.socket"}, switched...)...)
	if got := labtest.Run(t, "fermata", "snapshot", "list", "-q"); strings.TrimSpace(got) != h.set {
		t.Errorf("after the upgrades there are the sets %q, want %s", got, h.set)
	}
	if text, err := os.ReadFile("/etc/fermata/fermata.yaml"); err != nil || string(text) != configured {
		t.Errorf("an upgrade has changed the configuration: %q, %v", text, err)
	}
}

// removed removes the package. The set stays, and the administrator is told.
func (h host) removed(t *testing.T, m manager) {
	t.Helper()
	if out := labtest.Run(t, m.remove...); !strings.Contains(out, "1 snapshot set(s) stay") {
		t.Errorf("the removal does not tell of the set:\n%s", out)
	}
	for _, unit := range append([]string{"fermatad.service", "fermata-guard.service", "fermata-guard.socket"}, switched...) {
		if a := property(t, unit, "ActiveState"); a != "inactive" {
			t.Errorf("after the removal %s is %s", unit, a)
		}
	}
	missing(t, "/usr/bin/fermata")
	labtest.Run(t, "test", "-e", "/var/lib/fermata")
	for _, name := range []string{"writers.d/slow.yaml", "policies.d/slow.yaml"} {
		if err := os.Remove("/etc/fermata/" + name); err != nil {
			t.Error(err)
		}
	}
	if got := snapshots(t); !strings.Contains(got, h.set) {
		t.Errorf("the removal has left the snapshots %q", got)
	}
	h.volume.Writable(t)
}

// The life of a package on a host that takes sets.
func TestPackages(t *testing.T) {
	h := settle(t, dpkg)
	purge := []string{"env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--purge", "fermata"}
	t.Cleanup(func() { labtest.Try(t, purge...) })
	t.Run("completion", func(t *testing.T) { completions(t, h.set) })
	t.Run("while a set is taken", func(t *testing.T) { during(t, dpkg, h.volume) })
	t.Run("while a set is mounted", func(t *testing.T) { h.mounted(t, dpkg) })
	t.Run("a set that begins too late", func(t *testing.T) { h.late(t, dpkg) })
	h.upgraded(t)
	h.removed(t, dpkg)
	labtest.Run(t, "test", "-e", "/etc/fermata/fermata.yaml")
	t.Run("installed again", func(t *testing.T) {
		labtest.Run(t, dpkg.to(t, "0.0.2")...)
		if list := labtest.Run(t, "fermata", "snapshot", "list", "-q"); !strings.Contains(list, h.set) {
			t.Errorf("it lists %q", list)
		}
		labtest.Run(t, "systemctl", "is-enabled", "fermatad.service", "fermata-guard.socket")
		labtest.Run(t, "systemctl", "is-active", "fermatad.service", "fermata-guard.socket")
		missing(t, "/var/lib/fermata/removed")
		labtest.Run(t, dpkg.remove...)
	})
	if out := labtest.Run(t, purge...); !strings.Contains(out, "1 snapshot(s) of Fermata's are left") {
		t.Errorf("the purge does not tell of the snapshot:\n%s", out)
	}
	missing(t, "/etc/fermata")
	missing(t, "/var/lib/fermata")
	if got := snapshots(t); !strings.Contains(got, h.set) {
		t.Errorf("the purge has left the snapshots %q", got)
	}
	h.volume.Writable(t)
}

// during upgrades and removes the package while a set is being taken. No set is lost by it.
func during(t *testing.T, m manager, v labtest.Volume) {
	for _, c := range []struct {
		name, wait string
		command    []string
		status     int
		says       string
		restarted  bool
	}{
		{"upgrade waits", "300", m.to(t, "0.0.2"), 0, "waiting for what is being done", true},
		{"upgrade gives up waiting", "1", m.to(t, "0.0.1"), 0, "the daemon goes on as it was", false},
		{"removal is refused", "1", m.remove, 1, "not removed", false},
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
			change := exec.Command(c.command[0], c.command[1:]...)
			said := &watched{}
			change.Stdout, change.Stderr = said, said
			if err := change.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- change.Wait() }()
			eventually(t, "it says "+c.says, func() bool { return strings.Contains(said.String(), c.says) })
			write(t, goOn, "", 0o644)
			if err := <-ended; change.ProcessState.ExitCode() != c.status {
				t.Errorf("%v, want exit status %d:\n%s", err, c.status, said)
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
