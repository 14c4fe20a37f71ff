//go:build lab

package redis

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

// load counts up on the server, and in this process once the server has said so.
type load struct {
	acknowledged atomic.Int64
	stop, done   chan struct{}
	err          error
}

func (i *instance) load() *load {
	i.t.Helper()
	l := &load{stop: make(chan struct{}), done: make(chan struct{})}
	ctx := context.Background()
	c, err := connect(ctx, Options{Address: i.socket})
	if err != nil {
		i.t.Fatal(err)
	}
	go func() {
		defer close(l.done)
		defer c.Close()
		for {
			select {
			case <-l.stop:
				return
			default:
			}
			n, err := c.do(ctx, "INCR", "n")
			if err != nil {
				l.err = err
				return
			}
			l.acknowledged.Store(n.(int64))
		}
	}()
	for l.acknowledged.Load() < 100 {
		time.Sleep(time.Millisecond)
	}
	return l
}

func (l *load) end(t *testing.T) {
	close(l.stop)
	<-l.done
	if l.err != nil {
		t.Errorf("the client saw %v", l.err)
	}
}

// All that was acknowledged before the hold is in the files, nothing is
// acknowledged in it, readers are served, and the client only waits.
func TestHold(t *testing.T) {
	for _, fsync := range []string{"everysec", "always"} {
		t.Run(fsync, func(t *testing.T) {
			i := start(t, "appendonly yes", "appendfsync "+fsync)
			l := i.load()
			r := i.recipe(Options{})
			prepared, frozen := i.held(r)
			before := l.acknowledged.Load()
			time.Sleep(50 * time.Millisecond)
			copied := i.copied("appendonly yes")
			if n := l.acknowledged.Load(); n > before+1 { // one may have been on its way
				t.Errorf("%d writes were acknowledged in the hold", n-before)
			}
			if n, want := copied.must("GET", "n"), l.acknowledged.Load(); n != fmt.Sprint(want) {
				t.Errorf("the copy has %s, acknowledged was %d", n, want)
			}
			if size := i.must("CONFIG", "GET", minSize); size != fmt.Sprintf("[%s %d]", minSize, 67108864+offset) {
				t.Errorf("rewrites are not held off: %s", size)
			}
			if prepared["server"] != "redis" || prepared["appendfsync"] != fsync || frozen["contains"] != "all that was acknowledged" {
				t.Errorf("%v, %v", prepared, frozen)
			}
			if data, err := i.thaw(r); err != nil || data["paused_ms"].(int64) < 50 {
				t.Errorf("Thaw() = %v, %v", data, err)
			}
			i.free()
			for end := time.Now().Add(10 * time.Second); l.acknowledged.Load() < before+100; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("the client does not go on")
				}
			}
			l.end(t)
		})
	}
}

// blocked is a watch that the server has read, and holds back.
var blocked = regexp.MustCompile(`(?m) flags=\S*b.* cmd=publish`)

// Whatever takes the session, the server or the pause away, thaw says so, and
// the site goes on.
func TestHoldLost(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(i *instance, w *writer, client string)
		down  bool
	}{
		"CLIENT KILL of the session": {func(i *instance, _ *writer, client string) { i.must("CLIENT", "KILL", "ID", client) }, false},
		"CLIENT KILL of all":         {func(i *instance, _ *writer, _ string) { i.must("CLIENT", "KILL", "TYPE", "normal") }, false},
		"CLIENT UNPAUSE":             {func(i *instance, _ *writer, _ string) { i.must("CLIENT", "UNPAUSE") }, false},
		"CLIENT UNPAUSE and PAUSE": {func(i *instance, _ *writer, _ string) {
			for end := time.Now().Add(10 * time.Second); !blocked.MatchString(i.must("CLIENT", "LIST")); time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					i.t.Fatal("the watch does not wait for the end of the pause")
				}
			}
			i.must("CLIENT", "UNPAUSE")
			i.must("CLIENT", "PAUSE", "200", "WRITE")
		}, false},
		"SIGKILL of the server": {func(i *instance, _ *writer, _ string) { i.kill() }, true},
		"restart":               {func(i *instance, _ *writer, _ string) { i.kill(); i.run() }, false},
		"pause that ended by itself": {func(_ *instance, w *writer, _ string) {
			w.hold.quiet()
			w.hold.renewed = w.hold.renewed.Add(-pauseFor)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			i := start(t, "appendonly yes")
			w := i.recipe(Options{})
			_, frozen := i.held(w)
			test.spoil(i, w, frozen["client_id"].(string))
			if _, err := i.thaw(w); !errors.Is(err, hooks.ErrHoldLost) {
				t.Errorf("Thaw() = %v, want ErrHoldLost", err)
			}
			if !test.down {
				i.free()
			}
		})
	}
}

// A recipe that is killed undoes nothing: the pause ends by itself, and the next
// set gives rewrites back.
func TestDeath(t *testing.T) {
	long, often := pauseFor, renewEvery
	pauseFor, renewEvery = 400*time.Millisecond, 100*time.Millisecond
	defer func() { pauseFor, renewEvery = long, often }()
	i := start(t, "appendonly yes")
	w := i.recipe(Options{})
	i.held(w)
	time.Sleep(2 * pauseFor) // renewed meanwhile
	if silent, err := w.hold.watch.silent(); !silent || err != nil {
		t.Errorf("the pause was not renewed: %v", err)
	}
	w.hold.quiet()
	_, _ = w.conn.Conn.Close(), w.hold.watch.Conn.Close()
	w.conn = nil
	i.must("SET", "a", "1")
	next := i.recipe(Options{})
	i.held(next)
	if _, err := i.thaw(next); err != nil {
		t.Error(err)
	}
	i.free()
}

func TestAbort(t *testing.T) {
	for name, end := range map[string]func(*writer) error{
		"abort": func(w *writer) error { return w.Abort(context.Background(), hooks.Request{}) },
		"close": func(w *writer) error { return w.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			i := start(t, "appendonly yes")
			w := i.recipe(Options{})
			i.held(w)
			if err := end(w); err != nil {
				t.Error(err)
			}
			i.free()
		})
	}
}

// Without an append-only file the set has the last save, which is prepare's own,
// or, if it is asked for, the hold's.
func TestSave(t *testing.T) {
	for _, inHold := range []bool{false, true} {
		t.Run(fmt.Sprintf("in the hold %t", inHold), func(t *testing.T) {
			i := start(t)
			i.must("SET", "early", "1")
			w := i.recipe(Options{SaveInHold: inHold})
			ctx := context.Background()
			if _, err := w.Prepare(ctx, i.set(hooks.PhasePrepare)); err != nil {
				t.Fatal(err)
			}
			i.must("SET", "late", "1")
			frozen, err := w.Freeze(ctx, i.set(hooks.PhaseFreeze))
			if err != nil {
				t.Fatal(err)
			}
			late, since, contains := "<nil>", int64(1), "the last save"
			if inHold {
				late, since, contains = "1", 0, "all that was acknowledged"
			}
			copied := i.copied()
			if got := copied.must("MGET", "early", "late"); got != "[1 "+late+"]" {
				t.Errorf("the copy has %s", got)
			}
			if frozen["changes_since_save"] != since || frozen["contains"] != contains {
				t.Errorf("Freeze() = %v", frozen)
			}
			if _, err := i.thaw(w); err != nil {
				t.Error(err)
			}
			i.free()
		})
	}
}

// A save that takes long is given up in time, and so is one that fails.
func TestRefusals(t *testing.T) {
	refused := func(i *instance, o Options, r hooks.Request, want string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		w := i.recipe(o)
		begin := time.Now()
		_, err := w.Prepare(ctx, r)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("it took %s", took)
		}
		if err := w.Abort(context.Background(), r); err != nil {
			t.Error(err)
		}
	}
	i := start(t)
	prepare := i.set(hooks.PhasePrepare)
	i.must("MSET", "a", "1", "b", "2", "c", "3", "d", "4")
	i.must("CONFIG", "SET", "rdb-key-save-delay", "2000000")
	refused(i, Options{}, prepare, "the save has not ended in time")
	refused(i, Options{}, prepare, "another save or rewrite has not ended in time")
	aof := start(t, "appendonly yes")
	aof.must("MSET", "a", "1", "b", "2", "c", "3", "d", "4")
	aof.must("CONFIG", "SET", "rdb-key-save-delay", "2000000")
	aof.must("BGREWRITEAOF")
	refused(aof, Options{}, aof.set(hooks.PhasePrepare), "rewrite of the append-only file has not ended in time")
	aof.free()
	paused := start(t, "appendonly yes")
	paused.must("CLIENT", "PAUSE", "60000", "WRITE")
	refused(paused, Options{}, paused.set(hooks.PhasePrepare), "has somebody paused it")
	paused.must("CLIENT", "UNPAUSE")
	elsewhere := paused.set(hooks.PhasePrepare)
	elsewhere.Volumes = []string{"/proc"}
	refused(paused, Options{}, elsewhere, "is on none of the set's volumes (/proc)")
	refused(paused, Options{Directory: "/none"}, paused.set(hooks.PhasePrepare), "name it with --directory")
}

func TestRights(t *testing.T) {
	i := start(t, "appendonly yes")
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("se cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	try := func(o Options, want string) {
		t.Helper()
		w := i.recipe(o)
		_, err := w.Prepare(context.Background(), i.set(hooks.PhasePrepare))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
		if want == "" {
			i.held(w)
			if _, err := i.thaw(w); err != nil {
				t.Error(err)
			}
		}
	}
	fermata := Options{User: "fermata", PasswordFile: password}
	try(fermata, "WRONGPASS")
	i.must("ACL", "SETUSER", "fermata", "on", ">se cret")
	try(fermata, "the user needs: ACL SETUSER NAME")
	grant := strings.Fields(rights)[3:]
	for n := range grant {
		i.must(append([]string{"ACL", "SETUSER", "fermata"}, grant[:n]...)...)
		if grant[n] != "+bgsave" { // not with an append-only file
			try(fermata, "the user needs: ACL SETUSER NAME")
		}
	}
	i.must(append([]string{"ACL", "SETUSER", "fermata"}, grant...)...)
	try(fermata, "")
	i.must("ACL", "SETUSER", "default", "resetpass", ">other")
	try(Options{}, "--password-file")
	if err := os.Chmod(password, 0o644); err != nil {
		t.Fatal(err)
	}
	try(fermata, "is open to everybody")
}

// Inactive needs proof: another server on the host takes it away, its pid file gives it.
func TestInactive(t *testing.T) {
	stopped := start(t)
	down := func(pidFile string) error {
		w := stopped.recipe(Options{})
		w.options.PIDFile = pidFile
		_, err := w.Prepare(context.Background(), stopped.set(hooks.PhasePrepare))
		return err
	}
	if err := down(""); err != nil {
		t.Errorf("it runs: %v", err)
	}
	stopped.kill() // leaves socket and pid file
	running := start(t)
	if err := down(""); err == nil || recipe.IsInactive(err) {
		t.Errorf("beside another server: %v", err)
	}
	if err := down(running.pid); err == nil || recipe.IsInactive(err) {
		t.Errorf("with the pid file of a running one: %v", err)
	}
	if err := down(stopped.pid); !recipe.IsInactive(err) {
		t.Errorf("with a stale pid file: %v", err)
	}
	if err := down(filepath.Join(stopped.dir, "none")); !recipe.IsInactive(err) {
		t.Errorf("without a pid file: %v", err)
	}
}

// A replica takes nothing from its primary in the hold, and catches up after it.
func TestReplica(t *testing.T) {
	primary := start(t, "repl-diskless-sync-delay 0")
	port := strconv.Itoa(20000 + os.Getpid()%20000)
	primary.must("CONFIG", "SET", "port", port)
	replica := start(t, "appendonly yes", "replicaof 127.0.0.1 "+port)
	seen := func(value string) bool { return replica.must("GET", "a") == value }
	await := func(value string) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !seen(value); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the replica does not get %s", value)
			}
		}
	}
	primary.must("SET", "a", "1")
	await("1")
	w := replica.recipe(Options{})
	prepared, _ := replica.held(w)
	primary.must("SET", "a", "2")
	time.Sleep(300 * time.Millisecond)
	if prepared["role"] != "slave" || !seen("1") {
		t.Errorf("%v; the replica went on in the hold", prepared)
	}
	if _, err := replica.thaw(w); err != nil {
		t.Error(err)
	}
	await("2")
}

// A rewrite that an administrator begins in the hold does no harm to the files.
func TestRewriteInHold(t *testing.T) {
	i := start(t, "appendonly yes")
	i.must("SET", "a", "1")
	w := i.recipe(Options{})
	i.held(w)
	i.must("CONFIG", "SET", "rdb-key-save-delay", "300000")
	i.must("BGREWRITEAOF")
	if got := i.copied("appendonly yes").must("GET", "a"); got != "1" {
		t.Errorf("the copy has %q", got)
	}
	if out, err := exec.Command("redis-check-aof", filepath.Join(i.dir, "appendonlydir", "appendonly.aof.manifest")).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := i.thaw(w); err != nil {
		t.Error(err)
	}
	i.free()
}
