//go:build lab

package system

import (
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

// While an lvm command of the daemon's hangs, be it for LVM's lock or by itself, everything that is looked at answers as it does otherwise,
// and with what is known: scrape, page, status, pools.
func TestLVMHangs(t *testing.T) {
	vols := thinVolumes(t, 1)
	configure(t, map[string]string{"policies.d/hurry.yaml": "volumes: [" + vols[0].Point + "]\nlimits: {prepare: 4s}\n"})
	labtest.Run(t, "ip", "link", "set", "lo", "up")
	labtest.Run(t, "systemctl", "start", "fermata-exporter.socket")
	t.Cleanup(func() { labtest.Run(t, "systemctl", "stop", "fermata-exporter.socket", "fermata-exporter.service") })
	must(t, "status")
	is(t, `fermata_pool_level{level="ok",pool="vg/pool"}`, 1)
	groupAsLVM(t, "vg")
	get(t, "/metrics", 200) // the first one starts the exporter
	host := startLoad(t, nil)
	for name, hang := range map[string]func(*testing.T) (release func()){"lock": holdLVM, "command": hangLVM} {
		t.Run(name, func(t *testing.T) {
			release := hang(t)
			set := exec.Command("fermata", "snapshot", "create", "--policy", "hurry")
			if err := set.Start(); err != nil {
				t.Fatal(err)
			}
			runs := func() bool {
				var s api.Status
				decode(t, must(t, "status", "--json"), &s)
				return s.Phase == "arm"
			}
			eventually(t, "the command runs", runs)
			answers(t, host)
			if set.Wait(); set.ProcessState.ExitCode() != 4 {
				t.Errorf("the set: exit status %d", set.ProcessState.ExitCode())
			}
			if p := problems(t); !strings.Contains(p, "has not returned") {
				t.Errorf("nothing hangs: %q", p)
			}
			answers(t, host)
			release()
			eventually(t, "nothing is left of it", func() bool { return snapshotLVs(t) == "" && problems(t) == "" })
		})
	}
}

// holdLVM holds the lock of volume group vg.
func holdLVM(t *testing.T) (release func()) {
	lock, err := os.OpenFile("/run/lock/lvm/V_vg", os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() { lock.Close() }
}

// hangLVM puts a program in lvm's place that does nothing, for ever.
func hangLVM(t *testing.T) (release func()) {
	dir := t.TempDir()
	program, pids := filepath.Join(dir, "lvm"), filepath.Join(dir, "pids")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho $$ >>"+pids+"\nexec sleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	labtest.Run(t, "mount", "--bind", program, "/usr/sbin/lvm")
	return func() {
		labtest.Run(t, "umount", "/usr/sbin/lvm")
		text, err := os.ReadFile(pids)
		if err != nil {
			t.Fatal(err)
		}
		labtest.Try(t, append([]string{"kill"}, strings.Fields(string(text))...)...)
	}
}

// answers has each look take less than a second, or what that is on this host now, and tell what is known.
func answers(t *testing.T, host *load) {
	t.Helper()
	known := []string{`fermata_pool_level{level="ok",pool="vg/pool"} 1`, `fermata_volume_group_size_bytes{group="vg"}`}
	for _, look := range []struct {
		name string
		do   func() string
		want []string
	}{
		{"scrape", func() string { return get(t, "/metrics", 200) }, known},
		{"textfile", func() string { return metrics(t) }, known},
		{"page", func() string { return get(t, "/", 200) }, []string{"vg/pool", "hurry"}},
		{"status", func() string { return must(t, "status") }, []string{"doing", "guard"}},
		{"pool list", func() string { return must(t, "pool", "list", "--json") }, []string{`"vg/pool"`, `"level": "ok"`}},
	} {
		began := monotonic()
		got := look.do()
		took, allowed := time.Duration(monotonic()-began), host.allowed(time.Second, began-int64(time.Second)) // in a moment little is seen of a host
		t.Logf("%-9s took %v, of %v", look.name, took.Round(time.Millisecond), allowed.Round(time.Millisecond))
		if took > allowed {
			t.Errorf("%s took %v, and allowed are %v", look.name, took, allowed)
		}
		for _, want := range look.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s does not tell of %q:\n%s", look.name, want, got)
			}
		}
	}
}
