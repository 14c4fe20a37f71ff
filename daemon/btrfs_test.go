package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// script is a program.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "btrfstune")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRenewID(t *testing.T) {
	said := filepath.Join(t.TempDir(), "said")
	if err := renewID(t.Context(), script(t, `echo "$@" > `+said), "/dev/x"); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(said); err != nil || string(b) != "-f -m /dev/x\n" {
		t.Errorf("it was run with %q, %v", b, err)
	}
	err := renewID(t.Context(), script(t, `echo "ERROR: no superblock" >&2; exit 3`), "/dev/x")
	if err == nil || !strings.Contains(err.Error(), "cannot give the btrfs on /dev/x an id of its own: ") || !strings.Contains(err.Error(), "exit status 3; it said: ERROR: no superblock") {
		t.Errorf("got %v", err)
	}
}

// A program that does not end in time is killed, with what it has started.
func TestRenewIDEnds(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	path := script(t, `trap "" TERM; sleep 300 & echo $! > `+pid+`.new; mv `+pid+`.new `+pid+`; wait`)
	ctx, cancel := context.WithCancelCause(t.Context())
	began := make(chan time.Time, 1)
	go func() {
		for {
			if _, err := os.Stat(pid); err == nil || t.Context().Err() != nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		began <- time.Now()
		cancel(errInjected)
	}()
	if err := renewID(ctx, path, "/dev/x"); !errors.Is(err, errInjected) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(<-began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	b, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); unix.Kill(n, 0) == nil && !zombie(n); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("process %d, which it started, goes on", n)
		}
	}
}

// zombie reports whether a process is dead, and only not yet reaped.
func zombie(pid int) bool {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err != nil || strings.Contains(string(b), ") Z ")
}
