//go:build lab

package system

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

// These tests need a guest whose root is a thin volume (FERMATA_LAB_ROOT_VOLUME=1): /, /var with the journal of systemd, the
// daemon's program, its configuration and its state are all on the one volume that is frozen. Neither this program nor what it
// writes is.

// rootVolume is the root of such a guest, with the journal on it and others who log all the time.
func rootVolume(t *testing.T) *logging {
	t.Helper()
	labtest.CheckClean(t)
	if source := labtest.Run(t, "findmnt", "-no", "SOURCE,FSTYPE", "/"); source != "/dev/mapper/lab-root ext4\n" {
		t.Fatalf("the root is %q: this test needs a guest with a root volume", source)
	}
	labtest.Run(t, "systemctl", "start", "fermata-guard.socket")
	const conf = "/etc/systemd/journald.conf.d/zz-test.conf"
	if err := os.WriteFile(conf, []byte("[Journal]\nStorage=persistent\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	labtest.Run(t, "systemctl", "restart", "systemd-journald")
	labtest.Run(t, "journalctl", "--flush")
	if files, err := filepath.Glob("/var/log/journal/*/system.journal"); err != nil || len(files) != 1 {
		t.Fatalf("the journal is not on the root: %v, %v", files, err)
	}
	return startLogging(t)
}

// logging is what somebody logs all the time, by the system's journal, and writes to the root.
type logging struct {
	tag      string
	sent     atomic.Int64
	longest  atomic.Int64 // that one message took, nanoseconds
	services string
}

func startLogging(t *testing.T) *logging {
	t.Helper()
	l := &logging{tag: "load-" + strconv.Itoa(rand.IntN(1e6)), services: services(t)}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: "/dev/log"})
	}
	if err != nil {
		t.Fatal(err)
	}
	stop, over := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				over <- unix.Close(fd)
				return
			case <-time.After(5 * time.Millisecond):
			}
			begin := time.Now()
			if _, err := unix.Write(fd, fmt.Appendf(nil, "<14>%s: message %d", l.tag, l.sent.Load())); err != nil { // waits if the journal does
				over <- fmt.Errorf("cannot log: %w", err)
				return
			}
			l.sent.Add(1)
			l.longest.Store(max(l.longest.Load(), int64(time.Since(begin))))
		}
	}()
	t.Cleanup(func() {
		close(stop)
		if err := <-over; err != nil {
			t.Error(err)
		}
		l.check(t)
	})
	return l
}

// services are the processes that everybody needs: none of them may have to be started anew because of a frozen root.
func services(t *testing.T) string {
	t.Helper()
	return labtest.Run(t, "systemctl", "show", "-p", "Id,MainPID,NRestarts", "systemd-journald", "dbus", "systemd-logind")
}

// check finds every message in the journal, and the system as it was.
func (l *logging) check(t *testing.T) {
	t.Helper()
	labtest.Run(t, "journalctl", "--sync")
	got := strings.Count(labtest.Run(t, "journalctl", "-q", "-t", l.tag, "-o", "cat"), "\n")
	t.Logf("%d messages were logged, the longest wait was %v", l.sent.Load(), time.Duration(l.longest.Load()).Round(time.Millisecond))
	if int64(got) != l.sent.Load() || got == 0 {
		t.Errorf("the journal has %d messages of %d", got, l.sent.Load())
	}
	if now := services(t); now != l.services {
		t.Errorf("services: before\n%s\nnow\n%s", l.services, now)
	}
}

// A set of the root: it ends, its snapshot can be mounted and has what was written before, and the system goes on.
func TestRootVolume(t *testing.T) {
	l := rootVolume(t)
	const mark = "/var/lib/root-volume"
	if err := os.WriteFile(mark, []byte("before"), 0o644); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(mark)
	m := create(t, "/")
	t.Logf("freeze window %v, %d messages logged meanwhile", m.Window, l.sent.Load())
	if m.State != api.Complete || m.Consistency != api.Filesystem || len(m.Volumes) != 1 || m.Volumes[0].Volume != "lab/root" || !m.Volumes[0].Frozen {
		t.Errorf("got %+v", m)
	}
	if err := os.WriteFile(mark, []byte("after"), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, "snapshot", "mount", m.ID)
	at := mounted(t, m.ID, "/")
	if b, err := os.ReadFile(filepath.Join(at, mark)); err != nil || string(b) != "before" {
		t.Errorf("the snapshot has %q, %v", b, err)
	}
	out, status := labtest.Try(t, "journalctl", "-q", "-D", filepath.Join(at, "var/log/journal"), "-t", l.tag, "-o", "cat")
	if status != 0 || strings.Count(out, "\n") == 0 {
		t.Errorf("the journal in the snapshot: exit status %d, %q", status, out)
	}
	must(t, "snapshot", "umount", m.ID)
	must(t, "snapshot", "delete", m.ID)
	// A hold of the root, of a second: programs are started meanwhile, and the bus answers.
	a := fermata(t, "quiesce", "/", "--", "sh", "-c", "sleep 1; systemctl show -P MainPID dbus >/dev/null && echo held")
	if a.status != 0 || a.stdout != "held\n" {
		t.Errorf("quiesce: exit status %d\n%s%s", a.status, a.stdout, a.stderr)
	}
}

// The panic verb releases a frozen root, without the daemon. Until then the bus and systemd answer: what they answer with is
// read, not written.
func TestRootVolumeThaw(t *testing.T) {
	rootVolume(t)
	labtest.Run(t, "systemctl", "stop", "fermatad")
	labtest.Run(t, "fsfreeze", "-f", "/")
	defer labtest.Try(t, "fsfreeze", "-u", "/")
	frozen := time.Now()
	if isWritable("/root") {
		t.Error("nothing is frozen: nothing is tested")
	}
	for _, argv := range [][]string{
		{"busctl", "status", "org.freedesktop.systemd1"}, {"systemctl", "show", "-P", "MainPID", "dbus"}, {"fermata", "thaw", "--help"},
	} {
		if out, status := labtest.Try(t, append([]string{"timeout", "20"}, argv...)...); status != 0 {
			t.Errorf("%v: exit status %d, %s", argv, status, out)
		}
	}
	if out := must(t, "thaw"); out != "nothing was frozen\n" {
		t.Errorf("what is not ours: got %q", out)
	}
	if out := must(t, "thaw", "/"); out != "thawed /\n" {
		t.Errorf("got %q", out)
	}
	t.Logf("it was frozen for %v", time.Since(frozen).Round(time.Millisecond))
	if !isWritable("/root") {
		t.Error("it is still frozen")
	}
}

// Set after set of the root, with kills of the daemon at any step: FERMATA_ROOT_SETS of them, or 2.
func TestRootVolumeSets(t *testing.T) {
	n := 2
	if s := os.Getenv("FERMATA_ROOT_SETS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	rootVolume(t)
	killed := 0
	for i := range n {
		point := strconv.Itoa(1 + rand.IntN(journalRecords))
		out, status := labtest.Try(t, os.Getenv("LAB"), "at", point, "KILL", "fermatad", "--", "fermata", "snapshot", "create", "/")
		if status != 0 {
			killed++
		}
		if !isWritable("/root") {
			t.Fatalf("killed at record %s: the root is frozen\n%s", point, out)
		}
		eventually(t, "nothing half-made is left", func() bool { return len(sets(t)) == len(lines(snapshotLVs(t))) })
		m := create(t, "/")
		t.Logf("set %d: killed at record %s (exit status %d); the next one has a freeze window of %v", i, point, status, m.Window)
		for _, s := range sets(t) {
			must(t, "snapshot", "delete", s.ID)
		}
	}
	if killed == 0 && n > 5 {
		t.Error("the daemon was never killed")
	}
	if left := snapshotLVs(t); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

// journalRecords is about how many records the journal of one set has.
const journalRecords = 28

func lines(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
}

// Daemon and guard die together while the root is frozen. systemd starts both anew, from the frozen root: it is released.
func TestRootVolumeDaemonAndGuardKilled(t *testing.T) {
	rootVolume(t)
	kill := heldFreeze(t, "/")
	guard := guardPID(t)
	written := make(chan error, 1)
	go func() { written <- os.WriteFile("/root/probe", []byte("x"), 0o600) }() // waits for the thaw
	defer os.Remove("/root/probe")
	kill(guard)
	died := time.Now()
	select {
	case err := <-written:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatalf("the root is frozen\n%s", labtest.Blocked())
	}
	t.Logf("released %v after the deaths", time.Since(died).Round(time.Millisecond))
	must(t, "snapshot", "list")
	if left := snapshotLVs(t); left != "" {
		t.Errorf("left behind: %s", left)
	}
	create(t, "/")
}
