//go:build lab

package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

func mainPID(t testing.TB) string {
	t.Helper()
	return strings.TrimSpace(labtest.Run(t, "systemctl", "show", "-P", "MainPID", "fermatad"))
}

// descriptors are how many files the daemon has open, but for pipes to plug-ins and the like that come and go.
func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/" + mainPID(t) + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// The bus dies and comes back. The daemon lives on and has its name again; a set that was being taken is finished, though
// its requester cannot be told.
func TestBusDies(t *testing.T) {
	vols := thinVolumes(t, 1)
	configure(t, map[string]string{
		"policies.d/slow.yaml": "volumes: [/srv/v1]\nwriters: [slow]\n",
		"writers.d/slow.yaml":  "session: [/usr/bin/fermata-writer, test, --delay, 4s, --delay-at, freeze]\n",
	})
	must(t, "status")
	pid, open := mainPID(t), descriptors(t)
	die := func() { labtest.Run(t, "systemctl", "kill", "-s", "KILL", "dbus.service") }
	back := func() {
		t.Helper()
		eventually(t, "the daemon is on the bus again", func() bool { return fermata(t, "status").status == 0 })
		if now := mainPID(t); now != pid {
			t.Errorf("the daemon was %s and is %s\n%s", pid, now, journal(t))
		}
	}
	die()
	back()

	c := exec.Command("fermata", "snapshot", "create", "--policy", "slow")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the writer is asked to hold", func() bool {
		entries, _ := filepath.Glob("/run/fermata/journal/*.journal")
		if len(entries) == 0 {
			return false
		}
		b, _ := os.ReadFile(entries[0])
		return strings.Contains(string(b), `"freeze-writers"`)
	})
	die()
	if err := c.Wait(); err == nil {
		t.Error("its requester was told of a set: the bus did not die in time")
	}
	back()
	var list []api.Manifest
	eventually(t, "the set is finished", func() bool { list = sets(t); return len(list) == 1 })
	if list[0].State != api.Complete || list[0].Policy != "slow" {
		t.Errorf("got %+v", list[0])
	}
	vols[0].Writable(t)
	must(t, "snapshot", "delete", "latest")
	if left, p := snapshotLVs(t), problems(t); left != "" || p != "" {
		t.Errorf("left behind: %s, problems %q", left, p)
	}
	eventually(t, fmt.Sprintf("%d descriptors are open, as before", open), func() bool { return descriptors(t) <= open })
}
