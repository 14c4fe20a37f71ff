//go:build lab

package system

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

// A new configuration is taken over as a whole by the same process, after the set that is being taken; a wrong one is refused, and
// nothing of it is in force.
func TestReload(t *testing.T) {
	thinVolumes(t, 1)
	configure(t, map[string]string{
		"policies.d/slow.yaml": "volumes: [/srv/v1]\nwriters: [slow]\n",
		"policies.d/more.yaml": "volumes: [/srv/nowhere]\n",
		"writers.d/slow.yaml":  "session: [/usr/bin/fermata-writer, test, --delay, 3s, --delay-at, prepare]\n",
	})
	pid := mainPID(t)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile("/etc/fermata/policies.d/more.yaml", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	active := func() {
		t.Helper()
		if got := labtest.Run(t, "systemctl", "show", "-P", "ActiveState", "fermatad") + labtest.Run(t, "systemctl", "show", "-P", "NRestarts", "fermatad"); got != "active\n0\n" {
			t.Errorf("the unit is %q", got)
		}
		if now := mainPID(t); now != pid {
			t.Errorf("the daemon was %s and is %s", pid, now)
		}
	}
	volumes := func() string {
		t.Helper()
		var all []api.Policy
		decode(t, must(t, "policy", "list", "--json"), &all)
		var out []string
		for _, p := range all {
			out = append(out, p.Name+":"+strings.Join(p.Volumes, ",")+p.Problem)
		}
		return strings.Join(out, " ")
	}

	write("volumes: [/srv/v1]\nvolume: 3\n")
	if out, status := labtest.Try(t, "systemctl", "reload", "fermatad"); status == 0 {
		t.Errorf("a wrong configuration was taken: %s", out)
	}
	if a := fermata(t, "config", "reload"); a.status != 2 || !strings.Contains(a.stderr, "more.yaml:2:1") || !strings.Contains(a.stderr, "the old one stays") {
		t.Errorf("it says %+v", a)
	}
	active()
	if got := volumes(); got != "more:/srv/nowhere slow:/srv/v1" {
		t.Errorf("in force is %s", got)
	}

	write("volumes: [/srv/v1]\n")
	set := exec.Command("fermata", "snapshot", "create", "--policy", "slow")
	if err := set.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the set has begun", func() bool {
		var s api.Status
		decode(t, must(t, "status", "--json"), &s)
		return s.Running != ""
	})
	labtest.Run(t, "systemctl", "reload", "fermatad")
	if err := set.Wait(); err != nil {
		t.Errorf("the set that was being taken: %v", err)
	}
	active()
	if got := volumes(); got != "more:/srv/v1 slow:/srv/v1" {
		t.Errorf("in force is %s", got)
	}
	list := sets(t)
	if len(list) != 1 {
		t.Errorf("sets: %+v", list)
	}
	m := create(t, "--policy", "more")
	for _, m := range append(list, m) {
		must(t, "snapshot", "delete", m.ID)
	}
}
