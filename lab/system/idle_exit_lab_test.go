//go:build lab

package system

import (
	"strings"
	"testing"

	"github.com/fermata-project/fermata/lab/labtest"
)

// A daemon that nobody needs ends, if it is told to; the bus starts it again for whoever asks, and it does not end while it works.
func TestIdleExit(t *testing.T) {
	thinVolumes(t, 1)
	configure(t, map[string]string{
		"fermata.yaml":         "idle_exit: 1s\n",
		"policies.d/slow.yaml": "volumes: [/srv/v1]\nwriters: [slow]\n",
		"writers.d/slow.yaml":  "session: [/usr/bin/fermata-writer, test, --delay, 4s, --delay-at, prepare]\n",
	})
	state := func() string {
		return strings.TrimSpace(labtest.Run(t, "systemctl", "show", "-P", "ActiveState", "fermatad")) + " " +
			strings.TrimSpace(labtest.Run(t, "systemctl", "show", "-P", "Result", "fermatad"))
	}
	ends := func() {
		t.Helper()
		eventually(t, "it ends, as it should", func() bool { return state() == "inactive success" })
	}
	ends()
	m := create(t, "--policy", "slow")
	if got := state(); !strings.HasSuffix(got, " success") {
		t.Errorf("after a set it is %s", got)
	}
	ends()
	if list := sets(t); len(list) != 1 || list[0].ID != m.ID {
		t.Errorf("sets: %+v", list)
	}
	must(t, "snapshot", "delete", m.ID)
}
