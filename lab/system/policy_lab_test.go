//go:build lab

package system

import (
	"strings"
	"testing"

	"github.com/fermata-project/fermata/lab/labtest"
)

// What a timer starts: a set, and then only those that the policy keeps. The timer itself waits for its time.
func TestPolicyRun(t *testing.T) {
	vols := thinVolumes(t, 1)
	configure(t, map[string]string{"policies.d/db.yaml": "volumes: [" + vols[0].Point + "]\nretention: {keep_last: 2}\n"})
	t.Cleanup(func() {
		for _, m := range sets(t) {
			must(t, "snapshot", "delete", m.ID)
		}
	})
	var taken []string
	for range 3 {
		labtest.Run(t, "systemctl", "start", "fermata-policy@db.service")
		list := sets(t)
		taken = append(taken, list[len(list)-1].ID)
	}
	list := sets(t)
	if len(list) != 2 || list[0].ID != taken[1] || list[1].ID != taken[2] {
		t.Errorf("of %q are left %+v", taken, list)
	}
	must(t, "snapshot", "mount", taken[1])
	if out := must(t, "policy", "run", "db"); strings.TrimSpace(out) <= taken[2] {
		t.Errorf("the new set is %q", out)
	}
	if out := must(t, "policy", "prune", "db", "--dry-run"); !strings.Contains(out, taken[1]) || !strings.Contains(out, "it is mounted") {
		t.Errorf("a mounted set:\n%s", out)
	}
	must(t, "snapshot", "umount", taken[1])
	must(t, "policy", "prune", "db")
	if n := len(sets(t)); n != 2 {
		t.Errorf("%d sets are left", n)
	}
	if out, status := labtest.Try(t, "systemctl", "start", "fermata-policy@nosuch.service"); status == 0 {
		t.Errorf("a policy that does not exist ran: %s", out)
	}
	labtest.Run(t, "systemctl", "reset-failed", "fermata-policy@nosuch.service")
	labtest.Run(t, "systemctl", "start", "fermata-policy-daily@db.timer")
	t.Cleanup(func() { labtest.Run(t, "systemctl", "stop", "fermata-policy-daily@db.timer") })
	if out := labtest.Run(t, "systemctl", "list-timers", "--all", "fermata-policy-daily@db.timer"); !strings.Contains(out, "fermata-policy@db.service") {
		t.Errorf("the timer waits for nothing:\n%s", out)
	}
	labtest.Run(t, "sh", "-c", "systemd-analyze verify --man=no /usr/lib/systemd/system/fermata*.service /usr/lib/systemd/system/fermata*.timer /usr/lib/systemd/system/fermata*.socket")
}
