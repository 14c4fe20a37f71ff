package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestGenerate(t *testing.T) {
	from, dir := t.TempDir(), t.TempDir()
	policies := filepath.Join(from, "policies.d")
	if err := os.MkdirAll(policies, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"db.yaml":     "volumes: [/srv]\nschedule: {at: [daily, '*:0/15'], randomized_delay: 30s, persistent: false, on_failure: alert@%n.service}\n",
		"plain.yaml":  "volumes: [/srv]\n",
		"broken.yaml": "volumes: [/srv]\nschedule: sometimes\n",
	} {
		if err := os.WriteFile(filepath.Join(policies, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // what is there already is no error
		if err := generate(from, dir); err == nil || !strings.Contains(err.Error(), `broken.yaml:2:11: schedule: "sometimes" is no calendar expression`) {
			t.Errorf("the broken policy: %v", err)
		}
	}
	var got []string
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		switch {
		case e.Type()&os.ModeSymlink != 0:
			to, err := os.Readlink(path)
			got = append(got, name+" -> "+to)
			return err
		case e.Type().IsRegular():
			text, err := os.ReadFile(path)
			got = append(got, name+":\n"+strings.ReplaceAll(string(text), from, "DIR"))
			return err
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `fermata-policy@db.service.d/50-schedule.conf:
# Made of DIR/policies.d/db.yaml: fermata policy apply makes it anew.
[Unit]
OnFailure=alert@%n.service

fermata-policy@db.timer:
# Made of DIR/policies.d/db.yaml: fermata policy apply makes it anew.
[Unit]
Description=Snapshot sets of policy db

[Timer]
OnCalendar=daily
OnCalendar=*:0/15 UTC
RandomizedDelaySec=30000000us
Persistent=false
AccuracySec=1s

timers.target.wants/fermata-policy@db.timer -> ../fermata-policy@db.timer`
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	// What systemd could take for the timer of a policy that has become unreadable.
	if _, err := os.Stat("../../systemd/fermata-policy@.timer"); err == nil {
		t.Error("there is a template with a schedule that nobody chose")
	}
	if err := generate(filepath.Join(from, "none"), dir); err != nil {
		t.Errorf("without a configuration: %v", err)
	}
}
