package recipe

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func sh(script string) Program { return Program{Path: "/bin/sh", Args: []string{"-c", script}} }

func TestProgram(t *testing.T) {
	if out, err := sh("echo said; echo $0 >&2").Run(t.Context()); err != nil || out != "said\n" {
		t.Errorf("got %q, %v", out, err)
	}
	if _, err := sh("echo out; echo err >&2; exit 3").Run(t.Context()); err == nil || !strings.Contains(err.Error(), "sh: it failed (exit status 3; it said: out | err)") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := sh("sleep 60 & sleep 60").Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestProgramStops(t *testing.T) {
	for script, want := range map[string]string{
		"trap 'exit 0' TERM; echo; while :; do sleep 0.01; done": "",
		"trap 'exit 7' TERM; echo; while :; do sleep 0.01; done": "exit status 7",
		"trap '' TERM; echo; while :; do sleep 0.01; done":       "deadline exceeded",
	} {
		ready := filepath.Join(t.TempDir(), "ready")
		x, err := sh(strings.Replace(script, "echo", "echo >"+ready, 1)).Start()
		if err != nil {
			t.Fatal(err)
		}
		for _, err := os.Stat(ready); err != nil; _, err = os.Stat(ready) {
			time.Sleep(time.Millisecond)
		}
		limit := 30 * time.Second
		if strings.Contains(want, "deadline") {
			limit = 100 * time.Millisecond
		}
		err = x.Stop(unix.SIGTERM, limit)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", script, err, want)
		}
		if !x.Gone(10 * time.Second) {
			t.Errorf("%s: it still runs", script)
		}
		if err := x.Stop(unix.SIGTERM, time.Second); err != nil {
			t.Errorf("%s: stopped again: %v", script, err)
		}
	}
}

func TestFindProgram(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "b"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if path, err := FindProgram(dir, "a", "b"); path != filepath.Join(dir, "b") || err != nil {
		t.Errorf("got %s, %v", path, err)
	}
	if _, err := FindProgram(dir, "a"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "--bin-directory") {
		t.Errorf("got %v", err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		if _, err := (Program{Path: filepath.Join(dir, "b")}).Run(t.Context()); err == nil {
			t.Error("root ran what others may change")
		}
	}
}
