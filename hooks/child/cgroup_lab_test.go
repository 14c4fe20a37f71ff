//go:build lab

package child

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// testHome is a cgroup as systemd would have given it to us. All tests of the package run in it.
const testHome = "/sys/fs/cgroup/fermata-test"

func TestMain(m *testing.M) {
	err := os.Mkdir(testHome, 0o755)
	if err == nil {
		err = errors.Join(unix.Setxattr(testHome, "trusted.delegate", []byte("1"), 0),
			os.WriteFile(testHome+"/cgroup.procs", []byte(strconv.Itoa(os.Getpid())), 0))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// below lists the cgroups of programs.
func below(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(testHome + "/*-*/cgroup.procs")
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 20 s; cgroups: %v", what, below(t))
		}
	}
}

// where a process is; empty if it is gone.
func where(pid string) string {
	text, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		return ""
	}
	_, path, _ := strings.Cut(strings.TrimSpace(string(text)), "0::")
	return path
}

// escape leaves a process of another session and with another parent behind, which ignores SIGTERM, and tells its number.
const escape = `trap '' TERM; rm -f /run/told; (setsid sh -c 'echo $$; : >/run/told; exec sleep 300' &); until [ -e /run/told ]; do sleep 0.02; done; `

// chain is a process that lives on by forking itself again and again.
const chain = `f() { sleep 0.01; f & }; f; `

func TestNothingEscapes(t *testing.T) {
	if in, err := Contained(); err != nil || in != testHome {
		t.Fatalf("%q, %v", in, err)
	}
	for _, tt := range []struct {
		name, script string
		whole        bool
		end          func(*Process)
		survives     bool
	}{
		{name: "left alone", script: escape, survives: true},
		{name: "whole", script: escape, whole: true},
		{name: "killed", script: escape + `exec sleep 300`, end: (*Process).Kill},
		{name: "terminated", script: escape + `trap - TERM; exec sleep 300`, end: (*Process).Terminate},
		{name: "terminated, and deaf", script: escape + `sleep 300; sleep 300`, whole: true, end: (*Process).Terminate},
		{name: "forks without end", script: escape + chain + `exec sleep 300`, end: (*Process).Kill},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, out := sh(t, tt.script, tt.whole)
			b := make([]byte, 16)
			n, err := out.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			pid := strings.TrimSpace(string(b[:n]))
			if tt.end != nil {
				if in := where(pid); !strings.Contains(in, "fermata-test/loose-") && !strings.Contains(in, "fermata-test/whole-") {
					t.Errorf("it is in %q", in)
				}
				tt.end(p)
			}
			if err := p.Buried(Grace + 10*time.Second); err != nil {
				t.Error(err)
			}
			if left := below(t); len(left) > 0 {
				t.Errorf("cgroups are left: %v", left)
			}
			if tt.survives {
				if in := where(pid); in != "/fermata-test" {
					t.Errorf("it is in %q", in)
				}
				n, _ := strconv.Atoi(pid)
				if err := unix.Kill(n, unix.SIGKILL); err != nil {
					t.Error(err)
				}
			}
			eventually(t, "the escaped process is gone", func() bool { return where(pid) == "" })
		})
	}
}

// On kernels without cgroup.kill the processes are killed one by one: that way works on all.
func TestKillOneByOne(t *testing.T) {
	p, _ := sh(t, chain+chain+`exec sleep 300`, true)
	eventually(t, "it has forked", func() bool { pids, err := p.cgroup.pids(); return err == nil && len(pids) > 2 })
	if err := p.cgroup.killEach(); err != nil {
		t.Error(err)
	}
	if err := p.Buried(10 * time.Second); err != nil {
		t.Error(err)
	}
}

// A program that cannot be started leaves no cgroup, and neither does what an earlier process of ours had run.
func TestCgroupsAreRemoved(t *testing.T) {
	if _, err := Start(Command{Path: "/nowhere", Args: []string{"x"}}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	eventually(t, "no cgroup is left", func() bool { return len(below(t)) == 0 })
	sleeping := map[string]*os.Process{}
	for _, name := range []string{wholePrefix + "1", loosePrefix + "7", wholePrefix + "8", "other-1"} {
		if err := os.Mkdir(filepath.Join(testHome, name), 0o755); err != nil {
			t.Fatal(err)
		}
		d, err := os.Open(filepath.Join(testHome, name))
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if name == wholePrefix+"8" {
			continue // empty
		}
		c, err := os.StartProcess("/bin/sleep", []string{"sleep", "300"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(d.Fd())}})
		if err != nil {
			t.Fatal(err)
		}
		sleeping[name] = c
	}
	if _, err := Contained(); err != nil {
		t.Fatal(err)
	}
	p, _ := sh(t, `exit 0`, true) // a name that is taken is no obstacle
	if err := p.Buried(10 * time.Second); err != nil {
		t.Error(err)
	}
	if state, err := sleeping[wholePrefix+"1"].Wait(); err != nil || state.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("%v, %v", state, err)
	}
	eventually(t, "the cgroups are gone", func() bool { return len(below(t)) == 1 })
	for name, in := range map[string]string{loosePrefix + "7": "/fermata-test", "other-1": "/fermata-test/other-1"} {
		if got := where(strconv.Itoa(sleeping[name].Pid)); got != in {
			t.Errorf("%s: the process is in %q, want %q", name, got, in)
		}
		if err := sleeping[name].Kill(); err != nil {
			t.Error(err)
		}
		sleeping[name].Wait()
	}
	eventually(t, "it can be removed", func() bool { return os.Remove(testHome+"/other-1") == nil })
}
