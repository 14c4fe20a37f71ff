//go:build lab

package system

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

// A hold without a snapshot: frozen while CMD runs, released in every case, and believed only if it lasted.
func TestQuiesce(t *testing.T) {
	point := thinVolumes(t, 1)[0].Point
	scripts := filepath.Join("/etc", "fsfreeze-hook.d")
	log := filepath.Join(t.TempDir(), "log")
	configure(t, map[string]string{
		"writers.d/w.yaml": "name: w\nsession: [fermata-writer, test]\n",
		"writers.d/h.yaml": "name: h\ntype: qemu-hook-dir\ndirectory: " + scripts + "\n",
	})
	if err := os.Mkdir(scripts, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(scripts)
	if err := os.WriteFile(scripts+"/one", []byte("#!/bin/sh\necho $1 >>"+log+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}

	t.Run("lasts", func(t *testing.T) {
		a := fermata(t, "quiesce", "--json", "--writer", "w", point, "--",
			"sh", "-c", "touch "+point+"/late >/dev/null 2>&1 & sleep 0.5; test ! -e "+point+"/late && echo frozen; exit 7")
		if a.status != 7 || a.stdout != "frozen\n" {
			t.Fatalf("exit status %d\n%s%s\n%s", a.status, a.stdout, a.stderr, journal(t))
		}
		var m api.Manifest
		decode(t, a.stderr, &m)
		if m.State != api.Released || m.Consistency != api.Application || len(m.Volumes) != 1 || !m.Volumes[0].Frozen {
			t.Errorf("got %+v", m)
		}
		eventually(t, "the write that waited", func() bool { _, err := os.Stat(point + "/late"); return err == nil })
	})

	// It finds nothing to write, but sends a flush, which device-mapper counts as a write.
	t.Run("CMD synchronises what is frozen", func(t *testing.T) {
		if a := fermata(t, "quiesce", point, "--", "sync", point+"/late"); a.status != 0 {
			t.Errorf("exit status %d\n%s", a.status, a.stderr)
		}
	})

	t.Run("CMD writes to what is frozen", func(t *testing.T) {
		a := fermata(t, "quiesce", "--for", "1s", point, "--", "sh", "-c", "echo x >"+point+"/blocked")
		if a.status != 4 || !strings.Contains(a.stderr, "was not released within 1s") {
			t.Errorf("exit status %d\n%s", a.status, a.stderr)
		}
	})

	t.Run("output to what is frozen", func(t *testing.T) {
		f, err := os.Create(point + "/out")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		c := exec.Command("fermata", "quiesce", point, "--", "echo", "text")
		c.Stdout, c.Stderr = f, f
		if err := c.Run(); err != nil {
			t.Error(err)
		}
		if b, err := os.ReadFile(f.Name()); err != nil || string(b) != "text\n" {
			t.Errorf("got %q, %v", b, err)
		}
	})

	t.Run("fermata is killed", func(t *testing.T) {
		h := hold(t, point)
		h.cmd.Process.Kill()
		h.writable()
		eventually(t, "the daemon is free again", func() bool { return running(t) == "" })
	})

	t.Run("the daemon is killed", func(t *testing.T) {
		h := hold(t, point)
		labtest.Run(t, "systemctl", "kill", "-s", "KILL", "--kill-who=main", "fermatad")
		h.writable()
		if status := h.end(); status != 4 {
			t.Errorf("exit status %d\n%s", status, h.stderr.String())
		}
	})

	t.Run("the writer is killed", func(t *testing.T) {
		h := hold(t, point)
		labtest.Run(t, "pkill", "-KILL", "-x", "fermata-writer")
		h.writable()
		if status := h.end(); status != 4 || !strings.Contains(h.stderr.String(), "a writer let go before the hold was released") {
			t.Errorf("exit status %d\n%s", status, h.stderr.String())
		}
	})

	t.Run("somebody thaws", func(t *testing.T) {
		h := hold(t, point)
		labtest.Run(t, "fsfreeze", "-u", point)
		if status := h.end(); status != 4 || !strings.Contains(h.stderr.String(), "the hold was broken") {
			t.Errorf("exit status %d\n%s", status, h.stderr.String())
		}
	})

	t.Run("writers only", func(t *testing.T) {
		number := strings.TrimSpace(must(t, "quiesce", "--writers-only", "--writer", "w", "--writer", "h", "--detach"))
		labtest.Run(t, "touch", point+"/not-frozen")
		must(t, "release", number)
		if b, err := os.ReadFile(log); err != nil || string(b) != "freeze\nthaw\n" {
			t.Errorf("the guest agent's scripts were told %q, %v", b, err)
		}
		if a := fermata(t, "release", "4711"); a.status != 4 {
			t.Errorf("exit status %d\n%s", a.status, a.stderr)
		}
	})

	t.Run("guest agent", func(t *testing.T) { guestAgent(t, point) })

	if n := len(sets(t)); n > 0 || snapshotLVs(t) != "" {
		t.Errorf("%d sets exist: %s", n, snapshotLVs(t))
	}
}

// held is a hold whose CMD runs until end is called.
type held struct {
	t           *testing.T
	point, stop string
	cmd         *exec.Cmd
	stderr      bytes.Buffer
}

// hold begins one, of a minute.
func hold(t *testing.T, point string) *held {
	t.Helper()
	dir := t.TempDir() // on a filesystem that is not held
	h := &held{t: t, point: point, stop: filepath.Join(dir, "stop")}
	begun := filepath.Join(dir, "begun")
	h.cmd = exec.Command("fermata", "quiesce", "--for", "1m", "--writer", "w", point, "--",
		"sh", "-c", `touch "$0"; while ! test -e "$1"; do sleep 0.1; done`, begun, h.stop)
	h.cmd.Stderr = &h.stderr
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.end() })
	eventually(t, "the hold", func() bool { _, err := os.Stat(begun); return err == nil })
	return h
}

// writable waits until the filesystem can be written again: well before the hold's own time is over.
func (h *held) writable() {
	h.t.Helper()
	c := exec.Command("touch", h.point+"/again")
	if err := c.Start(); err != nil {
		h.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	eventually(h.t, "the release", func() bool {
		select {
		case err := <-done:
			if err != nil {
				h.t.Error(err)
			}
			return true
		default:
			return false
		}
	})
	if state := h.cmd.ProcessState; state != nil && !state.Sys().(syscall.WaitStatus).Signaled() {
		h.t.Errorf("it had ended by itself: %v", state)
	}
}

// end lets CMD end, and gives fermata's exit status.
func (h *held) end() int {
	if h.cmd.ProcessState == nil {
		_ = os.WriteFile(h.stop, nil, 0o600)
		_ = h.cmd.Wait() // the status is the result
	}
	return h.cmd.ProcessState.ExitCode()
}

// running is the set, or hold, that the daemon is at.
func running(t *testing.T) string {
	t.Helper()
	var s api.Status
	decode(t, must(t, "status", "--json"), &s)
	return s.Running
}
