//go:build lab

package system

import (
	"os"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/config/calendar"
	"github.com/fermata-project/fermata/lab/labtest"
)

// A policy with a schedule runs when it says, without a scheduler of ours; a new schedule is applied, and one that is gone is not run
// any more.
func TestSchedule(t *testing.T) {
	v := thinVolumes(t, 1)[0]
	volumes := "volumes: [" + v.Point + "]\n"
	policy := func(schedule string) {
		t.Helper()
		configure(t, map[string]string{"policies.d/often.yaml": volumes + schedule + "retention: {keep_last: 2}\n"})
	}
	timers := func() string {
		return labtest.Run(t, "systemctl", "list-units", "--type=timer", "--state=active", "--plain", "--no-legend", "fermata-policy@*")
	}
	t.Cleanup(func() {
		labtest.Run(t, "systemctl", "stop", "fermata-policy@often.*")
	})

	policy("schedule: Mon..Fry 8:00\n")
	if a := fermata(t, "policy", "apply"); a.status != 2 || !strings.Contains(a.stderr, `often.yaml:2:11: schedule: "Mon..Fry 8:00" is no calendar expression: "Mon..Fry" is no day of the week`) {
		t.Errorf("a wrong schedule: exit status %d\n%s", a.status, a.stderr)
	}

	policy("schedule: {at: '*:*:0/5', randomized_delay: 0s}\n")
	if got := must(t, "policy", "apply"); got != "runs fermata-policy@often.timer\n" {
		t.Errorf("applied: %q", got)
	}
	eventually(t, "two sets that nobody asked for", func() bool { return len(sets(t)) == 2 })
	newest := sets(t)[1].ID
	eventually(t, "the third, and that the first is gone", func() bool { s := sets(t); return len(s) == 2 && s[0].ID == newest })

	labtest.Run(t, "systemctl", "stop", "fermata-policy@often.timer") // for the daemon is started anew, which a run would notice
	eventually(t, "the last run ends", func() bool {
		return labtest.Run(t, "systemctl", "show", "-P", "ActiveState", "fermata-policy@often.service") == "inactive\n"
	})
	policy("schedule: {at: yearly}\n")
	must(t, "policy", "apply")
	if got := labtest.Run(t, "systemctl", "show", "-P", "TimersCalendar", "fermata-policy@often.timer"); !strings.Contains(got, "OnCalendar=*-01-01 00:00:00 ") || strings.Contains(got, ":0/5") {
		t.Errorf("its times are %s", got)
	}

	// A mistake, and somebody installs something else: systemd does not find a schedule that nobody has chosen.
	policy("schedule: sometimes\n")
	labtest.Run(t, "systemctl", "daemon-reload")
	if got := labtest.Run(t, "systemctl", "show", "-p", "ActiveState,LoadState,TimersCalendar", "fermata-policy@often.timer"); got != "LoadState=not-found\nActiveState=failed\n" {
		t.Errorf("the timer of a policy with a mistake:\n%s", got)
	}
	policy("schedule: daily\n")
	must(t, "policy", "apply")
	if got := timers(); !strings.HasPrefix(got, "fermata-policy@often.timer ") {
		t.Errorf("after the mistake was mended there runs %q", got)
	}
	policy("")
	if got := must(t, "policy", "apply"); got != "stopped fermata-policy@often.timer\n" {
		t.Errorf("applied: %q", got)
	}
	if got := timers(); got != "" {
		t.Errorf("still running: %s", got)
	}

	// A timer that has failed of a mistake goes without a trace.
	policy("schedule: daily\n")
	must(t, "policy", "apply")
	policy("schedule: sometimes\n")
	labtest.Run(t, "systemctl", "daemon-reload")
	policy("")
	if got := must(t, "policy", "apply"); got != "stopped fermata-policy@often.timer\n" {
		t.Errorf("applied: %q", got)
	}
	for _, m := range sets(t) {
		must(t, "snapshot", "delete", m.ID)
	}
}

// What we take for a calendar expression, systemd does, and the other way round.
func TestCalendar(t *testing.T) {
	text, err := os.ReadFile("../../config/calendar/testdata/expressions")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		_, err := calendar.Parse(line)
		if out, status := labtest.Try(t, "systemd-analyze", "calendar", "--", line); (status == 0) != (err == nil) {
			t.Errorf("%q: %v, but systemd says %d: %s", line, err, status, out)
		}
	}
}
