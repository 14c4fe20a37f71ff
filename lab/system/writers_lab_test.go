//go:build lab

package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

// documented writes the program of docs/writers.md that has the given words in it.
func documented(t testing.TB, language, words, path string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/writers.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range strings.Split(string(page), "```"+language+"\n")[1:] {
		if block, _, _ = strings.Cut(block, "```"); strings.Contains(block, words) {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(block), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.Remove(path) })
			return
		}
	}
	t.Fatalf("docs/writers.md has no program with %q", words)
}

// service runs a program as a transient service, until the test ends.
func service(t testing.TB, unit, user string, argv ...string) {
	t.Helper()
	labtest.Run(t, append([]string{"systemd-run", "--quiet", "--unit=" + unit, "--uid=" + user}, argv...)...)
	t.Cleanup(func() {
		labtest.Try(t, "systemctl", "stop", unit)
		labtest.Try(t, "systemctl", "reset-failed", unit)
	})
}

// listed is a writer as fermata writer show tells.
func listed(t testing.TB, name string) (w api.Writer) {
	t.Helper()
	decode(t, must(t, "writer", "show", name, "--json"), &w)
	return w
}

// The service of the documentation, in Python, run by the user of its declaration, is a writer: asked over the real bus, under
// the bus's own policy. When it dies in the hold, nothing is kept; when fermatad dies, it goes on and registers again.
func TestServiceWriter(t *testing.T) {
	vols := thinVolumes(t, 1)
	program, file := "/usr/local/libexec/stock-service", vols[0].Point+"/lines"
	documented(t, "python", "stock-service:", program)
	configure(t, map[string]string{
		"writers.d/stock.yaml":   "type: dbus\nuser: nobody\n",
		"writers.d/slow.yaml":    "session: [fermata-writer, test, --delay, 4s, --delay-at, freeze]\nlevel: system\n",
		"policies.d/stock.yaml":  "volumes: [/srv/v1]\nwriters: [stock]\n",
		"policies.d/slowly.yaml": "volumes: [/srv/v1]\nwriters: [stock, slow]\n",
	})
	if w := listed(t, "stock"); w.Registered != "" || !strings.Contains(w.Problem, "no service has registered it") {
		t.Errorf("before it runs: %+v", w)
	}
	labtest.Run(t, "touch", file)
	labtest.Run(t, "chown", "nobody", file)
	if out, status := labtest.Try(t, "runuser", "-u", "nobody", "--", "python3", program, "other", file); status == 0 || !strings.Contains(out, "may not register a writer") {
		t.Errorf("an undeclared writer of an ordinary user: status %d, %s", status, out)
	}
	service(t, "stock", "nobody", "python3", program, "stock", file)
	registered := func() bool { return listed(t, "stock").Registered != "" }
	eventually(t, "it has registered", registered)
	if out := must(t, "writer", "test", "stock"); !strings.Contains(out, "a set could claim application consistency") || !listed(t, "stock").Last.Test {
		t.Errorf("tested: %s, listed %+v", out, listed(t, "stock").Last)
	}
	m := create(t, "--policy", "stock")
	if m.Consistency != api.Application || len(m.Writers) != 1 || m.Writers[0].State != "released" || m.Writers[0].Type != "dbus" {
		t.Errorf("the set claims %s, writers %+v", m.Consistency, m.Writers)
	}
	size := func() int64 {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	before := size()
	eventually(t, "it writes after the set", func() bool { return size() > before })

	done := make(chan answer, 1)
	go func() { done <- fermata(t, "snapshot", "create", "--policy", "slowly") }()
	frozen := func() bool {
		files, _ := filepath.Glob("/run/fermata/journal/*.journal")
		if len(files) == 0 {
			return false
		}
		b, _ := os.ReadFile(files[0])
		return strings.Contains(string(b), `"freeze-writers"`)
	}
	eventually(t, "the writers are asked to hold", frozen)
	before = size()
	eventually(t, "it stands still", func() bool { was := before; before = size(); labtest.Run(t, "sleep", "0.3"); return was == size() })
	labtest.Run(t, "systemctl", "kill", "-s", "KILL", "stock")
	if a := <-done; a.status != 4 || !strings.Contains(a.stderr, "its service has left the bus") {
		t.Errorf("it died in the hold: exit status %d, %s\n%s", a.status, a.stderr, journal(t))
	}
	if list := sets(t); len(list) != 1 {
		t.Errorf("%d sets exist", len(list))
	}

	labtest.Try(t, "systemctl", "reset-failed", "stock")
	service(t, "stock", "nobody", "python3", program, "stock", file)
	eventually(t, "it has registered", registered)
	labtest.Run(t, "systemctl", "kill", "-s", "KILL", "fermatad")
	if m := create(t, "--policy", "stock"); m.Consistency != api.Application {
		t.Errorf("after the death of fermatad the set claims %s", m.Consistency)
	}
}

// A unit is frozen while the set is captured. A thaw by somebody else costs the set; the death of daemon and writer together
// leaves nothing frozen.
func TestUnitWriter(t *testing.T) {
	vols := thinVolumes(t, 1)
	file := vols[0].Point + "/ticks"
	configure(t, map[string]string{
		"writers.d/ticker.yaml":   "type: systemd-unit\nunit: ticker.service\n",
		"writers.d/bus.yaml":      "type: systemd-unit\nunit: dbus.service\n",
		"writers.d/slow.yaml":     "session: [fermata-writer, test, --delay, 3s, --delay-at, freeze]\nlevel: system\n",
		"policies.d/ticker.yaml":  "volumes: [/srv/v1]\nwriters: [ticker]\n",
		"policies.d/bus.yaml":     "volumes: [/srv/v1]\nwriters: [bus]\n",
		"policies.d/slowest.yaml": "volumes: [/srv/v1]\nwriters: [ticker, slow]\n",
	})
	if a := fermata(t, "snapshot", "create", "--policy", "ticker"); a.status != 1 || !strings.Contains(a.stderr, "there is no unit ticker.service") {
		t.Errorf("of no unit: exit status %d, %s", a.status, a.stderr)
	}
	service(t, "ticker", "root", "sh", "-c", "while :; do echo tick >>"+file+"; sleep 0.05; done")
	if m := create(t, "--policy", "ticker"); m.Consistency != api.Application || m.Writers[0].State != "released" {
		t.Errorf("the set claims %s, writers %+v", m.Consistency, m.Writers)
	}
	if a := fermata(t, "snapshot", "create", "--policy", "bus"); a.status != 1 || !strings.Contains(a.stderr, "could not be let go without dbus.service") {
		t.Errorf("the bus: exit status %d, %s", a.status, a.stderr)
	}
	freezer := func() string {
		return strings.TrimSpace(labtest.Run(t, "systemctl", "show", "-P", "FreezerState", "ticker"))
	}
	taking := func() <-chan answer {
		done := make(chan answer, 1)
		go func() { done <- fermata(t, "snapshot", "create", "--policy", "slowest") }()
		eventually(t, "the unit is frozen", func() bool { return freezer() == "frozen" })
		return done
	}
	done := taking()
	labtest.Run(t, "systemctl", "thaw", "ticker")
	labtest.Run(t, "systemctl", "freeze", "ticker") // and as if nothing had been
	if a := <-done; a.status != 4 || !strings.Contains(a.stderr, "was thawed, or emptied, in between") {
		t.Errorf("somebody thawed it: exit status %d, %s", a.status, a.stderr)
	}
	done = taking()
	labtest.Run(t, "systemctl", "kill", "-s", "STOP", "fermatad")
	if out := must(t, "thaw"); !strings.Contains(out, "thawed unit ticker.service") || freezer() != "running" {
		t.Errorf("the panic verb: %s; the unit is %s", out, freezer())
	}
	labtest.Run(t, "systemctl", "kill", "-s", "CONT", "fermatad")
	if a := <-done; a.status != 4 {
		t.Errorf("after the panic verb: exit status %d, %s", a.status, a.stderr)
	}
	done = taking()
	labtest.Run(t, "systemctl", "kill", "-s", "KILL", "--kill-whom=all", "fermatad")
	eventually(t, "the unit goes on after the death of daemon and writer", func() bool { return freezer() == "running" })
	<-done
	done = taking()
	labtest.Run(t, "pkill", "-KILL", "-f", "^fermata-writer systemd-unit ticker.service")
	if a := <-done; a.status != 4 {
		t.Errorf("its writer died: exit status %d, %s", a.status, a.stderr)
	}
	if state := freezer(); state != "running" {
		t.Errorf("after the death of its writer the unit is %s", state)
	}
	if left, _ := filepath.Glob("/run/fermata/units/*"); len(left) > 0 || len(sets(t)) != 1 {
		t.Errorf("notes %q, %d sets", left, len(sets(t)))
	}
}
