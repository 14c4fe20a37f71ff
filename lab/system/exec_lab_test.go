//go:build lab

package system

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/lab/labtest"
)

// A command runs with a set, at the same place each time; whatever ends it, the set is put away.
func TestExec(t *testing.T) {
	vols := thinVolumes(t, 2)
	for _, v := range vols {
		if err := os.WriteFile(filepath.Join(v.Point, "f"), []byte("before\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	configure(t, map[string]string{"policies.d/db.yaml": "volumes: [/srv/v1, /srv/v2]\nwriters: [w]\n", "writers.d/w.yaml": "name: w\nsession: [fermata-writer, test]\nreport: true\n"})
	gone := func() {
		t.Helper()
		eventually(t, "nothing is left of the set", func() bool {
			mounts, err := os.ReadFile("/proc/self/mounts")
			return err == nil && len(sets(t)) == 0 && snapshotLVs(t) == "" && !strings.Contains(string(mounts), "/run/fermata/exec")
		})
		if left, err := os.ReadDir("/run/fermata/exec/db"); err != nil || len(left) > 0 {
			t.Errorf("left are %v, %v", left, err)
		}
	}

	a := fermata(t, "exec", "--policy", "db", "--", "sh", "-c",
		`echo after >/srv/v1/f; cat $FERMATA_ROOT/srv/v1/f /run/fermata/exec/db/srv/v2/f; echo x 2>/dev/null >$FERMATA_ROOT/srv/v1/f || echo sealed; exit 7`)
	if a.status != 7 || a.stdout != "before\nbefore\nsealed\n" {
		t.Errorf("exit status %d\n%s\n%s", a.status, a.stdout, a.stderr)
	}
	gone()
	if log := journal(t); !strings.Contains(log, `msg="backup reported"`) || !strings.Contains(log, "outcome=failed") {
		t.Errorf("the journal does not tell:\n%s", log)
	}

	const reads = "cd $FERMATA_ROOT/srv/v1 && touch /run/begun && exec sleep 1000"
	begunWith := func(script string, options ...string) *exec.Cmd {
		t.Helper()
		os.Remove("/run/begun")
		command := []string{"--", "sh", "-c", script}
		c := exec.Command("fermata", slices.Concat([]string{"exec", "--policy", "db"}, options, command)...)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it runs", func() bool { _, err := os.Stat("/run/begun"); return err == nil })
		return c
	}
	begun := func(options ...string) *exec.Cmd { t.Helper(); return begunWith(reads, options...) }
	t.Run("two at once", func(t *testing.T) {
		c := begun()
		if a := fermata(t, "exec", "--policy", "db", "--", "touch", "/run/second"); a.status != 75 || !strings.Contains(a.stderr, "/run/fermata/exec/db") {
			t.Errorf("exit status %d\n%s", a.status, a.stderr)
		}
		if _, err := os.Stat("/run/second"); err == nil || len(sets(t)) != 1 {
			t.Errorf("the second one ran, or has left something: %d sets", len(sets(t)))
		}
		c.Process.Kill()
		c.Wait()
		gone()
	})
	// survived checks that the set is there as long as what the command has started reads it, and no longer.
	survived := func(t *testing.T) {
		t.Helper()
		if s := sets(t); len(s) != 1 || len(s[0].Mounts) == 0 {
			t.Errorf("while it is read: %+v", s)
		}
		labtest.Run(t, "pkill", "-KILL", "-f", "^sleep 1000")
		gone()
	}
	t.Run("fermata is killed, and what the command has started is not", func(t *testing.T) {
		c := begunWith("(" + reads + ") & wait")
		c.Process.Kill()
		c.Wait()
		survived(t)
	})
	t.Run("fermata and the daemon are killed, and what the command has started is not", func(t *testing.T) {
		c := begunWith("(" + reads + ") & wait")
		labtest.Run(t, "systemctl", "kill", "-s", "KILL", "fermatad")
		c.Process.Kill()
		c.Wait()
		labtest.Run(t, "systemctl", "start", "fermatad")
		survived(t)
	})
	t.Run("fermata is killed", func(t *testing.T) {
		c := begun()
		c.Process.Kill()
		c.Wait()
		gone()
	})
	t.Run("the command is killed", func(t *testing.T) {
		c := begun()
		labtest.Run(t, "pkill", "-KILL", "-f", "^sleep 1000")
		if c.Wait(); c.ProcessState.ExitCode() != 137 {
			t.Errorf("it ended with %v", c.ProcessState)
		}
		gone()
	})
	t.Run("the daemon is started anew", func(t *testing.T) {
		at := t.TempDir()
		c := begun("--at", at)
		if a := fermata(t, "status", "--busy", "restart"); a.status != 75 || !strings.Contains(a.stdout, "runs: use, policy db, set ") {
			t.Errorf("who would restart the daemon hears %+v", a)
		}
		labtest.Run(t, "systemctl", "restart", "fermatad")
		if a := fermata(t, "status", "--busy", "stop"); a.status != 75 || !strings.Contains(a.stdout, "is mounted: "+at) {
			t.Errorf("who would remove it hears %+v", a)
		}
		if n := len(sets(t)); n != 1 {
			t.Errorf("%d sets are there, not the one that is read", n)
		}
		labtest.Run(t, "pkill", "-TERM", "-f", "^sleep 1000")
		if c.Wait(); c.ProcessState.ExitCode() != 143 {
			t.Errorf("it ended with %v", c.ProcessState)
		}
		gone()
	})
	t.Run("a set that is there", func(t *testing.T) {
		m := create(t, "--policy", "db")
		if a := fermata(t, "exec", "--set", "latest:db", "--", "cat", "/run/fermata/exec/db/srv/v1/f"); a.status != 0 || a.stdout != "after\n" {
			t.Errorf("exit status %d\n%s\n%s", a.status, a.stdout, a.stderr)
		}
		if s := sets(t); len(s) != 1 || s[0].ID != m.ID || len(s[0].Mounts) > 0 || s[0].Reported == nil || s[0].Reported.Outcome != "ok" {
			t.Errorf("left is %+v", s)
		}
		must(t, "snapshot", "delete", m.ID)
	})
}
