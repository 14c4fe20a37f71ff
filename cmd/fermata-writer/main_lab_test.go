//go:build lab

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fermata-project/fermata/hooks"
)

// server starts PostgreSQL as its own user and returns its socket's folder.
func server(t *testing.T) string {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		t.Fatal(err)
	}
	top, err := os.MkdirTemp("", "pg")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(top, uid, gid); err != nil {
		t.Fatal(err)
	}
	run := func(program string, args ...string) error {
		cmd := exec.Command("/usr/lib/postgresql/15/bin/"+program, args...)
		cmd.Dir = top
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		return cmd.Run()
	}
	t.Cleanup(func() {
		_ = run("pg_ctl", "-D", top+"/data", "-m", "immediate", "stop")
		_ = os.RemoveAll(top)
	})
	for _, args := range [][]string{
		{"initdb", "-D", top + "/data", "--no-sync"}, // peer authentication for the socket
		{"pg_ctl", "-D", top + "/data", "-w", "-t", "120", "-l", top + "/log", "-o", "-k " + top + " -c listen_addresses=''", "start"},
	} {
		if err := run(args[0], args[1:]...); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
	}
	return top
}

// writerOf is the recipe for a server, run as a writer of Fermata is: as user
// postgres, from a program that root owns.
func writerOf(t *testing.T, top string) hooks.Writer {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	folder, err := os.MkdirTemp("", "writer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(folder, "fermata-writer")
	if err := copyProgram(self, copied); err != nil {
		t.Fatal(err)
	}
	w, err := hooks.New(hooks.Spec{
		Name: "pg", User: "postgres", Env: map[string]string{asProgram: "1"},
		Session: []string{copied, "postgresql", "--dsn", "host=" + top},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// The recipe through the whole of package hooks, whole and broken.
func TestPostgreSQLWriter(t *testing.T) {
	top := server(t)
	ctx := context.Background()
	ev := hooks.Event{Set: "s1", Volumes: []string{top}}
	for _, test := range []struct {
		name  string
		spoil func(data map[string]any)
		seen  bool // Holding sees it at once
		lost  bool
	}{
		{"whole", func(map[string]any) {}, false, false},
		{"session killed by the server", func(data map[string]any) { terminate(t, top, fmt.Sprint(data["backend_pid"])) }, false, true},
		{"recipe killed", func(map[string]any) { killRecipe(t) }, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := writerOf(t, top)
			if a, err := w.Prepare(ctx, ev); err != nil || a.Data["data_directory"] != top+"/data" {
				t.Fatalf("Prepare() = %v, %v", a, err)
			}
			a, err := w.Freeze(ctx, ev)
			if err != nil {
				t.Fatal(err)
			}
			test.spoil(a.Data)
			for end := time.Now().Add(5 * time.Second); test.seen && w.Holding() == nil && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			if held := w.Holding() == nil; held == test.seen {
				t.Errorf("Holding() = %v", w.Holding())
			}
			if _, err := w.Thaw(ctx, ev); errors.Is(err, hooks.ErrHoldLost) != test.lost {
				t.Errorf("Thaw() = %v", err)
			}
		})
	}
}

func terminate(t *testing.T, top, pid string) {
	t.Helper()
	cmd := exec.Command("/usr/lib/postgresql/15/bin/psql", "-h", top, "-d", "postgres", "-Atc", "SELECT pg_terminate_backend("+pid+", 5000)")
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid)}}
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "t" {
		t.Fatalf("%s: %v", out, err)
	}
}

// killRecipe kills the child of this process that runs as the recipe.
func killRecipe(t *testing.T) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range lines {
		line, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(line), "/fermata-writer\x00postgresql\x00") {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(path, "/")[2])
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal("no recipe runs")
}
