//go:build lab

package system

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/lab/labtest"
)

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
	// What it may have made is removed as soon as it has ended, and what waited for it is done.
	eventually(t, "nothing is left of it", func() bool { return !strings.Contains(snapshotLVs(t), "\n") && problems(t) == "" })
	must(t, "snapshot", "delete", create(t, "/srv/v1").ID)
	must(t, "snapshot", "delete", old.ID)
	if left, p := snapshotLVs(t), problems(t); left != "" || p != "" {
		t.Errorf("left behind: %s, problems %q", left, p)
	}
	eventually(t, "no more descriptors are open than before", func() bool { return descriptors(t) <= open })
}
