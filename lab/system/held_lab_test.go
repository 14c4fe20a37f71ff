//go:build lab

package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// Somebody holds LVM's lock of the volume group. Requests end in time and say so, one command waits however often it is
// asked, reading verbs answer, and when the lock is free nothing remains.
func TestLVMLockHeld(t *testing.T) {
	vols := thinVolumes(t, 1)
	configure(t, map[string]string{"policies.d/hurry.yaml": "volumes: [/srv/v1]\nlimits: {prepare: 4s}\n"})
	old := create(t, "/srv/v1")
	open := descriptors(t)
	if err := os.MkdirAll("/run/lock/lvm", 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile("/run/lock/lvm/V_vg", os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close() // which frees it
	refused := func(want string, status int, args ...string) {
		t.Helper()
		out, got := labtest.Try(t, append([]string{"timeout", "40", "fermata"}, args...)...)
		if got != status || !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%v: exit status %d, want %d; message %q, want %q\n%s", args, got, status, out, want, journal(t))
		}
	}
	const waits = `\(process \d+\) has not returned, .*somebody holds LVM's lock`
	refused(`not prepared within 4s`, 4, "snapshot", "create", "--policy", "hurry")
	time.Sleep(6 * time.Second) // a command that was left a moment ago is waited for
	for range 2 {
		refused(waits, 1, "snapshot", "create", "--policy", "hurry")
		refused(waits, 1, "snapshot", "delete", old.ID)
	}
	for _, verb := range [][]string{{"snapshot", "list"}, {"snapshot", "show", old.ID}, {"volume", "list"}, {"provider", "list"}, {"pool", "list"}} {
		refused("", 0, verb...)
	}
	if p := problems(t); !regexp.MustCompile(waits).MatchString(p) {
		t.Errorf("problems: %q", p)
	}
	if out, _ := labtest.Try(t, "pgrep", "-c", "-x", "lvm"); strings.TrimSpace(out) != "1" {
		t.Errorf("%s lvm commands run, want 1", strings.TrimSpace(out))
	}
	vols[0].Writable(t)

	lock.Close()
	eventually(t, "no command waits any more", func() bool { _, status := labtest.Try(t, "pgrep", "-x", "lvm"); return status != 0 })
	// What it may have made is removed before the next set.
	must(t, "snapshot", "delete", create(t, "/srv/v1").ID)
	must(t, "snapshot", "delete", old.ID)
	if left, p := snapshotLVs(t), problems(t); left != "" || p != "" {
		t.Errorf("left behind: %s, problems %q", left, p)
	}
	eventually(t, "no more descriptors are open than before", func() bool { return descriptors(t) <= open })
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
