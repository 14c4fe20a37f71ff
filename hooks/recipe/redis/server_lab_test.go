//go:build lab

package redis

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

// instance is a server of the test's own.
type instance struct {
	t      *testing.T
	dir    string
	socket string
	pid    string
	cmd    *exec.Cmd
	args   []string
}

// start runs a server with these settings: "appendonly yes".
func start(t *testing.T, settings ...string) *instance {
	t.Helper()
	return startIn(t, t.TempDir(), settings...)
}

func startIn(t *testing.T, dir string, settings ...string) *instance {
	t.Helper()
	i := &instance{t: t, dir: dir, socket: filepath.Join(dir, "s"), pid: filepath.Join(dir, "pid")}
	i.args = []string{"--port", "0", "--unixsocket", i.socket, "--dir", dir, "--save", "", "--pidfile", i.pid, "--logfile", filepath.Join(dir, "log")}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, " ")
		i.args = append(i.args, "--"+name, value)
	}
	i.run()
	t.Cleanup(i.kill)
	return i
}

func (i *instance) run() {
	i.t.Helper()
	i.cmd = exec.Command("redis-server", i.args...)
	i.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // with those that save for it
	if err := i.cmd.Start(); err != nil {
		i.t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := i.ask("GET", "n"); err == nil { // it has loaded its data
			return
		}
		if time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(i.dir, "log"))
			i.t.Fatalf("the server does not start: %s", log)
		}
	}
}

func (i *instance) kill() {
	if i.cmd.ProcessState != nil {
		return // killed before
	}
	_ = syscall.Kill(-i.cmd.Process.Pid, syscall.SIGKILL)
	_ = i.cmd.Wait()
}

// ask runs a command on a connection of its own.
func (i *instance) ask(words ...string) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := connect(ctx, Options{Address: i.socket})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.do(ctx, words...)
}

func (i *instance) must(words ...string) string {
	i.t.Helper()
	reply, err := i.ask(words...)
	if err != nil {
		i.t.Fatalf("%v: %v", words, err)
	}
	return fmt.Sprint(reply)
}

// set is what a recipe is told of a set with the server's own filesystem.
func (i *instance) set(phase hooks.Phase) hooks.Request {
	return hooks.Request{Phase: phase, Timeout: 20 * time.Second, Event: hooks.Event{Set: "s1", Volumes: []string{i.dir}}}
}

func (i *instance) recipe(o Options) *writer {
	i.t.Helper()
	o.Address, o.PIDFile = i.socket, i.pid
	r, err := New(o)
	if err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(func() { _ = r.Close() })
	return r.(*writer)
}

// held prepares and freezes.
func (i *instance) held(r recipe.Recipe) (prepared, frozen map[string]any) {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	prepared, err := r.Prepare(ctx, i.set(hooks.PhasePrepare))
	if err != nil {
		i.t.Fatal(err)
	}
	begin := time.Now()
	frozen, err = r.Freeze(ctx, i.set(hooks.PhaseFreeze))
	if err != nil {
		i.t.Fatal(err)
	}
	i.t.Logf("freeze took %s", time.Since(begin))
	return prepared, frozen
}

func (i *instance) thaw(r recipe.Recipe) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return r.Thaw(ctx, i.set(hooks.PhaseThaw))
}

// free fails unless writes go on, and automatic rewrites are as they were.
func (i *instance) free() {
	i.t.Helper()
	i.must("INCR", "free")
	if size := i.must("CONFIG", "GET", minSize); size != "["+minSize+" 67108864]" {
		i.t.Errorf("the server has %s", size)
	}
}

// copied is a server on a copy of the files as they are now.
func (i *instance) copied(settings ...string) *instance {
	i.t.Helper()
	dir := i.t.TempDir()
	out, err := exec.Command("sh", "-c", `cd "$1" && find . -maxdepth 1 ! -name . ! -type s ! -name pid ! -name log -exec cp -a {} "$2" \;`, "sh", i.dir, dir).CombinedOutput()
	if err != nil {
		i.t.Fatalf("%v: %s", err, out)
	}
	return startIn(i.t, dir, settings...)
}
