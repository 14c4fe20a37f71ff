//go:build lab

package sqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/hooks"
)

// client is a program that has a database open.
type client struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func connect(t *testing.T, path string) *client {
	t.Helper()
	c := &client{t: t, cmd: exec.Command("stdbuf", "-oL", "sqlite3", "-batch", path)}
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out, c.cmd.Stderr = bufio.NewReader(out), c.cmd.Stdout
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	c.do(".timeout 20000")
	return c
}

func (c *client) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// end closes the database, as a program that ends well.
func (c *client) end() {
	_ = c.in.Close()
	_ = c.cmd.Wait()
}

// send sends a statement, or a command of the shell.
func (c *client) send(statement string) {
	if !strings.HasPrefix(statement, ".") {
		statement += ";"
	}
	_, _ = fmt.Fprintf(c.in, "%s\n.print done\n", statement) // if it cannot, no answer comes
}

// answer is what was said to a statement, errors included.
func (c *client) answer() (string, error) {
	var said []string
	for {
		line, err := c.out.ReadString('\n')
		if line == "done\n" {
			return strings.Join(said, " "), nil
		}
		if err != nil {
			return "", err
		}
		said = append(said, strings.TrimSpace(line))
	}
}

func (c *client) do(statements ...string) (last string) {
	c.t.Helper()
	for _, s := range statements {
		c.send(s)
		var err error
		if last, err = c.answer(); err != nil || strings.Contains(last, "rror") {
			c.t.Fatalf("%s: %s%v", s, last, err)
		}
	}
	return last
}

// later is the answer to a statement that is being waited for.
func (c *client) later(statement string) <-chan string {
	c.t.Helper()
	c.send(statement)
	answer := make(chan string, 1)
	go func() {
		said, err := c.answer()
		if err != nil {
			said = err.Error()
		}
		answer <- said
	}()
	return answer
}

// waits fails if an answer comes, proceeds if none does or another one than want.
func waits(t *testing.T, answer <-chan string) {
	t.Helper()
	select {
	case said := <-answer:
		t.Errorf("it did not wait: %s", said)
	case <-time.After(100 * time.Millisecond):
	}
}

func proceeds(t *testing.T, answer <-chan string, want string) {
	t.Helper()
	select {
	case said := <-answer:
		if said != want {
			t.Errorf("the client got %s, want %s", said, want)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the client does not go on")
	}
}

func create(t *testing.T, mode string) (string, *client) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	c := connect(t, path)
	c.do("PRAGMA journal_mode = "+mode, "CREATE TABLE t (n INTEGER)", "INSERT INTO t VALUES (1)")
	return path, c
}

// copied is a client of a copy of the database as it is now.
func copied(t *testing.T, path string) *client {
	t.Helper()
	to := filepath.Join(t.TempDir(), "db")
	for _, end := range []string{"", "-wal", "-journal"} {
		b, err := os.ReadFile(path + end)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		put(t, to+end, b)
	}
	c := connect(t, to)
	if said := c.do("PRAGMA integrity_check"); said != "ok" {
		t.Errorf("the copy is broken: %s", said)
	}
	return c
}

const count = "SELECT count(*) FROM t"

var modes = []string{"DELETE", "TRUNCATE", "PERSIST", "WAL"}

// In a hold the files are at rest, others read, and who writes waits.
func TestWaits(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			path, c := create(t, mode)
			reader := connect(t, path)
			w, _ := held(t, path)
			insert := c.later("INSERT INTO t VALUES (2)")
			waits(t, insert)
			if said := reader.do(count); said != "1" {
				t.Errorf("a reader sees %s", said)
			}
			if said := copied(t, path).do(count); said != "1" {
				t.Errorf("the copy has %s", said)
			}
			if _, err := w.Thaw(t.Context(), request("")); err != nil {
				t.Error(err)
			}
			proceeds(t, insert, "")
			if said := reader.do(count); said != "2" {
				t.Errorf("after the thaw a reader sees %s", said)
			}
		})
	}
}

// Under steady load the lock is had soon, and no copy misses what was committed.
func TestLoad(t *testing.T) {
	for _, mode := range []string{"DELETE", "WAL"} {
		t.Run(mode, func(t *testing.T) {
			path, c := create(t, mode)
			var committed atomic.Int64
			committed.Store(1)
			stop, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				for {
					select {
					case <-stop:
						return
					default:
					}
					c.send("INSERT INTO t VALUES (0)")
					if said, err := c.answer(); said != "" || err != nil {
						t.Errorf("the client got %s, %v", said, err)
						return
					}
					committed.Add(1)
				}
			}()
			for range 3 {
				w := newWriter(t, Options{Files: []string{path}})
				if _, err := w.Prepare(t.Context(), request(filepath.Dir(path))); err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				_, err := w.Freeze(ctx, request(""))
				cancel()
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("freeze took %s", time.Since(begin))
				time.Sleep(10 * time.Millisecond)
				have, want := copied(t, path).do(count), fmt.Sprint(committed.Load())
				if _, err := w.Thaw(t.Context(), request("")); err != nil {
					t.Error(err)
				}
				if have != want {
					t.Errorf("the copy has %s, committed were %s", have, want)
				}
			}
			close(stop)
			<-done
		})
	}
}

// A transaction that does not end is refused in time, and can end afterwards; one
// that ends is waited for.
func TestBusy(t *testing.T) {
	for _, mode := range []string{"DELETE", "WAL"} {
		t.Run(mode, func(t *testing.T) {
			path, c := create(t, mode)
			w := newWriter(t, Options{Files: []string{path}})
			if _, err := w.Prepare(t.Context(), request(filepath.Dir(path))); err != nil {
				t.Fatal(err)
			}
			c.do("BEGIN IMMEDIATE", "INSERT INTO t VALUES (2)")
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			if _, err := w.Freeze(ctx, request("")); err == nil || !strings.Contains(err.Error(), "another program has it locked") {
				t.Errorf("Freeze() = %v", err)
			}
			time.AfterFunc(100*time.Millisecond, func() { c.send("COMMIT") })
			if _, err := w.Freeze(t.Context(), request("")); err != nil {
				t.Error(err)
			}
			if said := copied(t, path).do(count); said != "2" {
				t.Errorf("the copy has %s", said)
			}
			if _, err := w.Thaw(t.Context(), request("")); err != nil {
				t.Error(err)
			}
		})
	}
}

// Nobody has the database open: who comes in the hold waits, whether or not a
// program has left its -shm file.
func TestLogWithoutClient(t *testing.T) {
	for name, leave := range map[string]func(*client){byExclusive: (*client).end, byLog: (*client).kill} {
		t.Run(name, func(t *testing.T) {
			path, c := create(t, "WAL")
			leave(c)
			w, data := held(t, path)
			if how := data["databases"].([]any)[0].(map[string]any)["held_by"]; how != name {
				t.Errorf("held by %v, want %s", how, name)
			}
			late := connect(t, path).later("INSERT INTO t SELECT count(*) FROM t")
			waits(t, late)
			if said := copied(t, path).do(count); said != "1" {
				t.Errorf("the copy has %s", said)
			}
			if _, err := w.Thaw(t.Context(), request("")); err != nil {
				t.Error(err)
			}
			proceeds(t, late, "")
			if said := connect(t, path).do(count); said != "2" {
				t.Errorf("after the thaw there are %s", said)
			}
		})
	}
}

// The last program that closes a database in the hold cannot remove its log.
func TestLastClientGone(t *testing.T) {
	path, c := create(t, "WAL")
	w, _ := held(t, path)
	c.end()
	if said := copied(t, path).do(count); said != "1" {
		t.Errorf("the copy has %s", said)
	}
	if _, err := w.Thaw(t.Context(), request("")); err != nil {
		t.Error(err)
	}
	if said := connect(t, path).do(count); said != "1" {
		t.Errorf("after the thaw there are %s", said)
	}
}

// The journal of a writer that was killed is refused until somebody has rolled it
// back, and a reader meanwhile never sees what it would undo.
func TestHotJournal(t *testing.T) {
	path, c := create(t, "DELETE")
	c.do("INSERT INTO t SELECT value FROM json_each('['||substr(replace(hex(zeroblob(20000)),'0',',1'),2)||']')", "PRAGMA cache_size = 5",
		"PRAGMA cache_spill = 5", "BEGIN IMMEDIATE", "UPDATE t SET n = n + 1") // more than the cache: written before the end
	c.kill()
	w := newWriter(t, Options{Files: []string{path}})
	if _, err := w.Prepare(t.Context(), request(filepath.Dir(path))); !errors.Is(err, errHot) {
		t.Fatalf("Prepare() = %v", err)
	}
	if said := connect(t, path).do("SELECT max(n) FROM t"); said != "1" {
		t.Errorf("a reader sees %s", said)
	}
	if _, err := w.Prepare(t.Context(), request(filepath.Dir(path))); err != nil {
		t.Error(err)
	}
}

// A program that uses a database without locks is found out.
func TestWithoutLocks(t *testing.T) {
	path, _ := create(t, "DELETE")
	w, _ := held(t, path)
	time.Sleep(20 * time.Millisecond) // a file's time has the steps of the kernel's clock
	out, err := exec.Command("sqlite3", "file:"+path+"?nolock=1", "INSERT INTO t VALUES (3)").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := w.Thaw(t.Context(), request("")); !errors.Is(err, hooks.ErrHoldLost) {
		t.Errorf("Thaw() = %v", err)
	}
}

// A database that is a mount of its own may lie on any volume.
func TestMounted(t *testing.T) {
	path, _ := create(t, "DELETE")
	other := put(t, filepath.Join(t.TempDir(), "db"), nil)
	if err := unix.Mount(path, other, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(other, 0); err != nil {
			t.Error(err)
		}
	})
	w := newWriter(t, Options{Files: []string{other}})
	if _, err := w.Prepare(t.Context(), request(filepath.Dir(other))); err == nil || !strings.Contains(err.Error(), "is a mount of its own") {
		t.Errorf("Prepare() = %v", err)
	}
}
