//go:build lab

package system

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/lab/labtest"
)

// An ordinary user may do what polkit allows, and nothing else.
func TestOrdinaryUser(t *testing.T) {
	thinVolumes(t, 1)
	m := create(t, "/srv/v1")
	as := func(args ...string) (string, int) {
		return labtest.Try(t, append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "fermata"}, args...)...)
	}
	reading := [][]string{{"snapshot", "list"}, {"snapshot", "show", m.ID}, {"pool", "list"}, {"volume", "list"}, {"writer", "list"}}
	changing := [][]string{{"snapshot", "create", "/srv/v1"}, {"snapshot", "delete", m.ID}, {"snapshot", "mount", m.ID}, {"snapshot", "umount", m.ID}}
	refused := func(commands [][]string) {
		t.Helper()
		for _, args := range commands {
			if out, status := as(args...); status != 1 || !strings.Contains(out, "user 65534 may not") {
				t.Errorf("%v: exit status %d\n%s", args, status, out)
			}
		}
	}
	refused(append(reading, changing...))
	const rule = "/etc/polkit-1/rules.d/10-fermata-test.rules"
	text := `polkit.addRule(function(action, subject) {
	if (action.id == "org.fermata.fermata1.read" && subject.user == "nobody") return polkit.Result.YES;
});
`
	if err := os.WriteFile(rule, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(rule) })
	eventually(t, "polkit has read the rule", func() bool { _, status := as("snapshot", "list"); return status == 0 })
	for _, args := range reading {
		if out, status := as(args...); status != 0 {
			t.Errorf("%v: exit status %d\n%s", args, status, out)
		}
	}
	refused(changing)
	if n := len(sets(t)); n != 1 {
		t.Errorf("%d sets exist", n)
	}
}

// A daemon that does not answer systemd's watchdog any more is started anew, and undoes what it had begun.
func TestWatchdog(t *testing.T) {
	thinVolumes(t, 1)
	const dropIn = "/run/systemd/system/fermatad.service.d/watchdog.conf"
	if err := os.MkdirAll("/run/systemd/system/fermatad.service.d", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dropIn, []byte("[Service]\nWatchdogSec=4s\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		os.RemoveAll("/run/systemd/system/fermatad.service.d")
		labtest.Run(t, "systemctl", "daemon-reload")
		labtest.Run(t, "systemctl", "restart", "fermatad")
	})
	labtest.Run(t, "systemctl", "daemon-reload")
	labtest.Run(t, "systemctl", "restart", "fermatad")
	pid := func() string {
		return strings.TrimSpace(labtest.Run(t, "systemctl", "show", "-P", "MainPID", "fermatad"))
	}
	first := pid()
	time.Sleep(10 * time.Second) // over twice the limit
	if now := pid(); now != first {
		t.Fatalf("a healthy daemon was restarted: %s, then %s\n%s", first, now, journal(t))
	}
	labtest.Run(t, "kill", "-STOP", first)
	eventually(t, "a new daemon", func() bool { now := pid(); return now != first && now != "0" })
	create(t, "/srv/v1")
}
