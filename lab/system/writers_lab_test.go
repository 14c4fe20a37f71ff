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
