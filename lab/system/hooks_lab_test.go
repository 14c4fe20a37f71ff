//go:build lab

package system

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/lab/labtest"
)

// escaped starts a process of another session and another parent, which ignores SIGTERM and keeps no pipe.
const escaped = `(trap '' TERM; setsid sleep 301 >/dev/null 2>&1 </dev/null &)`

// Whatever a writer's program does, its set ends in time and as designed, with a message that names the writer and the
// phase; and nothing that it has started outlives it, whether it has left its process group or waits for a filesystem that
// somebody else has frozen.
func TestHooksFromHell(t *testing.T) {
	vols := thinVolumes(t, 2)
	const answer = "while read -r phase rest; do case $phase in "
	const others = "*) echo ok;; esac; done\n"
	tests := []struct {
		name    string
		session string // a script; or
		command string // one for the phase freeze
		frozen  bool   // somebody else has frozen /srv/v2
		status  []int  // one of them: it can be seen earlier or later
		message string // of %s, which is the writer
	}{
		{"session-leaves-daemon", answer + "prepare) " + escaped + "; echo ok;; " + others, "", false, []int{0}, ""},
		{"session-dies-leaving-daemon", answer + "freeze) " + escaped + "; exit 1;; " + others, "", false, []int{1}, `cannot freeze writer %s: it exited \(exit status 1\)`},
		{"session-is-deaf", answer + "freeze) trap '' TERM; " + escaped + "; sleep 301; sleep 301;; " + others, "", false, []int{4}, `cannot freeze writer %s: no answer to freeze within 2s`},
		{"session-answers-twice", answer + "freeze) echo ok; echo ok;; " + others, "", false, []int{1, 4}, `writer %s: (hold lost: )?it said "ok" without being asked`},
		{"session-closes-all", answer + "thaw) exec <&- >&- 2>&-; sleep 301;; " + others, "", false, []int{4}, `cannot thaw writer %s: hold lost: it closed its output`},
		{"session-writes-frozen", answer + "freeze) " + escaped + "; echo x >/srv/v2/written; echo ok;; " + others, "", true, []int{4}, `cannot freeze writer %s: no answer to freeze within 2s`},
		{"command-hangs-with-daemon", "", escaped + "\ntrap '' TERM\nsleep 301\nsleep 301\n", false, []int{4}, `cannot freeze writer %s: .*did not end within 2s`},
		{"command-writes-frozen", "", escaped + "\necho x >/srv/v2/written\n", true, []int{4}, `cannot freeze writer %s: .*did not end within 2s.*still there after SIGKILL: it waits inside the kernel`},
	}
	dir := "/usr/local/libexec/fermata"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, tt := range tests {
		program := filepath.Join(dir, tt.name)
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"+tt.session+tt.command), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(program) })
		run := "session: [" + tt.name + "]\n"
		if tt.command != "" {
			run = "commands: {freeze: [" + tt.name + "], thaw: [/bin/true]}\n"
		}
		files["writers.d/"+tt.name+".yaml"] = run + "timeouts: {prepare: 20s, freeze: 2s, thaw: 20s, abort: 2s}\n"
		files["policies.d/"+tt.name+".yaml"] = "volumes: [/srv/v1]\nwriters: [" + tt.name + "]\n"
	}
	configure(t, files)
	unit := "/sys/fs/cgroup/fermata.slice/fermatad.service"
	if got, _ := os.ReadFile(unit + "/cgroup.subtree_control"); strings.TrimSpace(string(got)) != "" {
		t.Errorf("controllers are switched on for writers: %s", got)
	}
	if got, err := os.ReadFile(filepath.Dir(unit) + "/cgroup.subtree_control"); err != nil || slices.Contains(strings.Fields(string(got)), "cpu") {
		t.Errorf("the controller of the processor is switched on: %s (%v)", got, err)
	}
	gone := func() bool {
		cgroups, _ := filepath.Glob(unit + "/*-*")
		_, status := labtest.Try(t, "pgrep", "-x", "-f", "sleep 301")
		return len(cgroups) == 0 && status != 0
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.frozen {
				labtest.Run(t, "fsfreeze", "-f", vols[1].Point)
				defer func() {
					labtest.Run(t, "fsfreeze", "-u", vols[1].Point)
					eventually(t, "what was frozen is gone", gone)
				}()
			}
			begin := time.Now()
			a := fermata(t, "snapshot", "create", "--policy", tt.name)
			want := "(?s)" + strings.ReplaceAll(tt.message, "%s", tt.name)
			if !slices.Contains(tt.status, a.status) || !regexp.MustCompile(want).MatchString(a.stderr) {
				t.Errorf("exit status %d, want one of %d; message %q, want %q\n%s", a.status, tt.status, a.stderr, want, journal(t))
			}
			if took := time.Since(begin); took > 30*time.Second {
				t.Errorf("it took %v", took)
			}
			vols[0].Writable(t)
			if a.status == 0 {
				must(t, "snapshot", "delete", "latest")
			}
			if left := snapshotLVs(t); left != "" {
				t.Errorf("left behind: %s", left)
			}
			if !tt.frozen {
				eventually(t, "nothing of it runs", gone)
			}
		})
	}
}
