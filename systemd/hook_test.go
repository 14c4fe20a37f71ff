package systemd

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The guest agent's hook gives the right commands, and passes failures on.
func TestGuestAgentHook(t *testing.T) {
	for name, tt := range map[string]struct {
		phase, conf, fermata string // what a fermata in its place does
		commands             []string
		status               int
	}{
		"freeze": {"freeze", "", `case $1 in writer) echo a; echo b ;; quiesce) echo 17 ;; esac`,
			[]string{"writer list -q", "quiesce --writers-only --for 60s --detach --writer a --writer b"}, 0},
		"policy":         {"freeze", "policy=p\nfor=20s\n", "echo 17", []string{"quiesce --writers-only --for 20s --detach --policy p"}, 0},
		"no writers":     {"freeze", "", "", []string{"writer list -q"}, 0},
		"no hold":        {"freeze", "policy=p\n", "exit 1", []string{"quiesce --writers-only --for 60s --detach --policy p"}, 1},
		"no daemon":      {"freeze", "", "exit 1", []string{"writer list -q"}, 1},
		"thaw":           {"thaw", "", "", []string{"release 16"}, 0},
		"degraded":       {"thaw", "", "exit 3", []string{"release 16"}, 0},
		"broken":         {"thaw", "", "exit 4", []string{"release 16"}, 4},
		"something else": {"status", "", "", nil, 2},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			hook, err := os.ReadFile("qemu-fsfreeze-hook")
			if err != nil {
				t.Fatal(err)
			}
			text := strings.NewReplacer("/etc/fermata", dir, "/run/fermata", dir).Replace(string(hook))
			err = errors.Join(
				os.WriteFile(filepath.Join(dir, "hook"), []byte(text), 0o755),
				os.WriteFile(filepath.Join(dir, "fermata"), []byte("#!/bin/sh\necho \"$@\" >>"+dir+"/log\n"+tt.fermata+"\n"), 0o755),
				os.WriteFile(filepath.Join(dir, "qemu-hook.conf"), []byte(tt.conf), 0o644),
				os.WriteFile(filepath.Join(dir, "qemu-hook"), []byte("16\n"), 0o644))
			if err != nil {
				t.Fatal(err)
			}
			c := exec.Command(filepath.Join(dir, "hook"), tt.phase)
			c.Env = []string{"PATH=" + dir + ":/usr/bin:/bin"}
			out, err := c.CombinedOutput()
			if got := c.ProcessState.ExitCode(); got != tt.status {
				t.Errorf("exit status %d: %v\n%s", got, err, out)
			}
			log, err := os.ReadFile(filepath.Join(dir, "log"))
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if want := strings.Join(append(tt.commands, ""), "\n"); string(log) != want {
				t.Errorf("ran\n%swant\n%s", log, want)
			}
			number, _ := os.ReadFile(filepath.Join(dir, "qemu-hook"))
			if held := tt.phase == "freeze" && tt.status == 0 && name != "no writers"; (string(number) == "17\n") != held {
				t.Errorf("the number that was kept is %q", number)
			}
		})
	}
}
