//go:build lab

package system

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

// play runs one case.
func (s *stage) play(t *testing.T, c matrixCase) {
	ok := t.Run(c.point+" "+c.fault.name, func(t *testing.T) {
		s.score.cases++
		s.took.start()
		t.Cleanup(func() { t.Log(s.took) })
		s.load.forget()
		if s.score.cases%8 == 0 {
			labtest.Run(t, "systemctl", "reset-failed", "fermatad.service") // systemd limits how often it may start again
		}
		struck, status := s.insist(t, c)
		s.took.lap("set")
		list := s.settle(t)
		s.took.lap("repair")
		if !s.load.since(struck, 30*time.Second) {
			t.Errorf("not released for 30 seconds\n%s", labtest.Blocked())
			labtest.Try(t, "fermata", "thaw", "--all") // for the cases that follow
		}
		d, where := s.load.longest(struck)
		s.score.released(c.fault.name, d)
		allowed := s.load.allowed(c.fault.within, struck)
		if d > c.fault.within {
			t.Logf("%s was blocked for %v; on this host it may be for %v", where, d, allowed)
		}
		if d > allowed {
			t.Errorf("%s was blocked for %v after it, and may be for %v (%v on a host that is not as slow)\n%s", where, d, allowed, c.fault.within, journal(t))
		}
		s.judge(t, c, list, status)
		if s.score.cases%32 == 0 {
			s.another(t)
		}
		s.clean.Same(t)
		s.took.lap("compare")
	})
	if !ok {
		s.score.failed++
	}
}

// another takes a set that nothing befalls. It does so after some cases, and after the last: each case begins with one anyway.
func (s *stage) another(t *testing.T) {
	t.Helper()
	must(t, "snapshot", "delete", strings.TrimSpace(must(t, "snapshot", "create", "-q", "--policy", "plain")))
	s.took.lap("another set")
}

// insist strikes until the point was met: on a busy host the lab may begin to trace too late.
func (s *stage) insist(t *testing.T, c matrixCase) (at int64, status int) {
	t.Helper()
	for range 3 {
		at, status, said := s.strike(t, c)
		if at > 0 {
			return at, status
		}
		t.Logf("the point was not reached: exit status %d\n%s", status, said)
		for _, m := range sets(t) {
			if m.ID != s.old {
				must(t, "snapshot", "delete", m.ID)
			}
		}
	}
	t.Fatalf("the point was never reached\n%s", journal(t))
	return 0, 0
}

// strike takes a set that the fault befalls. It returns when that was, 0 if it was not, the requester's exit status, and what
// was said.
func (s *stage) strike(t *testing.T, c matrixCase) (at int64, status int, text string) {
	t.Helper()
	if c.after > 0 {
		at, status = s.strikeAnywhere(t, c)
		return at, status, ""
	}
	args := append([]string{"at", c.point, c.fault.signal}, c.fault.programs...)
	cmd := exec.Command(os.Getenv("LAB"), append(args, "--", "fermata", "snapshot", "create", "-q", "--policy", c.fault.policy())...)
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		instant, found := strings.CutPrefix(lines.Text(), c.point+" at ")
		if !found {
			continue
		}
		if at, err = strconv.ParseInt(instant, 10, 64); err != nil {
			t.Fatal(err)
		}
		s.goOn(t, c, at)
	}
	cmd.Wait()
	return at, cmd.ProcessState.ExitCode(), said.String()
}

// strikeAnywhere is strike at an instant that has no name.
func (s *stage) strikeAnywhere(t *testing.T, c matrixCase) (at int64, status int) {
	t.Helper()
	cmd := exec.Command("fermata", "snapshot", "create", "-q", "--policy", c.fault.policy())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(c.after)
	at = monotonic()
	labtest.Run(t, "pkill", "-"+c.fault.signal, "-x", strings.Join(c.fault.programs, "|"))
	s.goOn(t, c, at)
	cmd.Wait()
	return at, cmd.ProcessState.ExitCode()
}

// goOn lets a daemon go on that was stopped.
func (s *stage) goOn(t *testing.T, c matrixCase, at int64) {
	t.Helper()
	if c.fault.signal == "STOP" {
		time.Sleep(freezeLimit) // the guard's deadline is past then, wherever it was armed
		s.load.since(at, c.fault.within)
		labtest.Run(t, "pkill", "-CONT", "-x", "fermatad")
	}
}

// settle waits until a daemon answers, which has repaired everything by then, and returns the sets that it knows.
func (s *stage) settle(t *testing.T) (list []api.Manifest) {
	t.Helper()
	eventually(t, "the daemon is there again", func() bool {
		a := fermata(t, "snapshot", "list", "--json")
		if a.status == 0 {
			decode(t, a.stdout, &list)
		}
		return a.status == 0
	})
	return list
}

// judge looks at what there is afterwards.
func (s *stage) judge(t *testing.T, c matrixCase, list []api.Manifest, status int) {
	t.Helper()
	var old, made []api.Manifest
	for _, m := range list {
		if m.State != api.Complete {
			t.Errorf("set %s is %s", m.ID, m.State)
		}
		if m.ID == s.old {
			old = append(old, m)
		} else {
			made = append(made, m)
		}
	}
	if len(old) != 1 {
		t.Errorf("the set that was finished before is gone")
	}
	want := 0
	if c.fault.dies && c.kept || !c.fault.dies && status == 0 {
		want = 1
	}
	if c.after > 0 && status != 0 {
		want = min(len(made), 1) // finished before, or never
	}
	if len(made) != want {
		t.Errorf("%d sets were made, want %d (exit status %d)\n%s", len(made), want, status, journal(t))
	}
	for _, m := range made {
		must(t, "snapshot", "delete", m.ID)
	}
	for _, dir := range []string{"/run/fermata/journal", "/run/fermata/guard"} {
		if left, err := filepath.Glob(dir + "/*"); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v (%v)", left, err)
		}
	}
	s.took.lap("judge")
}
