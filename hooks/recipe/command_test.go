package recipe

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// script writes an executable file.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRun(t *testing.T) {
	for name, tt := range map[string]struct{ text, out, err string }{
		"says something":        {`echo "$1 $LC_ALL"; echo aside >&2`, "one C\n", ""},
		"fails":                 {"echo out; echo because >&2; exit 3", "out\n", "exit status 3 (it said: because)"},
		"fails on stdout":       {"echo because; exit 3", "because\n", "(it said: because)"},
		"fails without a word":  {"exit 3", "", "exit status 3"},
		"leaves somebody":       {"sleep 60 & echo out", "out\n", ""},
		"is killed by a signal": {"kill -9 $$", "", "signal: killed"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := Run(t.Context(), script(t, tt.text), "one")
			if out != tt.out || tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.HasSuffix(err.Error(), tt.err)) {
				t.Errorf("got %q, %v", out, err)
			}
		})
	}
	if out, err := Run(t.Context(), script(t, "yes | head -c 1000000")); len(out) != maxOutput || err != nil {
		t.Errorf("a flood: %d bytes, %v", len(out), err)
	}
	if _, err := Run(t.Context(), "/nonexistent/program"); !os.IsNotExist(err) {
		t.Errorf("no program: %v", err)
	}
}

// Whoever does not end in time is killed, with its children.
func TestRunEnds(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	path := script(t, `trap "" TERM; sleep 60 & echo $! >`+pids+`; echo hanging >&2; wait; sleep 60`)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for {
			if b, _ := os.ReadFile(pids); strings.HasSuffix(string(b), "\n") {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
	}()
	if _, err := Run(ctx, path); err == nil || !strings.Contains(err.Error(), "did not end in time") || !strings.Contains(err.Error(), "hanging") {
		t.Errorf("got %v", err)
	}
	b, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); alive(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a child of it lives")
		}
	}
	if _, err := Run(ctx, path); err == nil { // whose time is over already
		t.Error("it was run")
	}
}

// alive: a zombie, which its new parent has not reaped yet, is not.
func alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ") && syscall.Kill(pid, 0) == nil
}
