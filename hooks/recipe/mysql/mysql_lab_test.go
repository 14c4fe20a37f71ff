//go:build lab

package mysql

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

// both are the locks that MariaDB has.
var both = []string{"backup-stage", "read-lock"}

// request is what a recipe is told of a set with the server's own filesystem.
func (d *database) request(phase hooks.Phase) hooks.Request {
	return hooks.Request{Phase: phase, Timeout: d.limit, Event: hooks.Event{Set: "s1", Volumes: []string{d.top}}}
}

// within sets another time limit for a test.
func (d *database) within(t *testing.T, limit time.Duration) {
	before := d.limit
	d.limit = limit
	t.Cleanup(func() { d.limit = before })
}

func (d *database) recipe(t *testing.T, o Options) recipe.Recipe {
	t.Helper()
	if o.Socket == "" && o.DefaultsFile == "" {
		o.Socket = d.socket
	}
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// phase runs a phase as recipe.Serve does: within the part of its time limit.
func (d *database) phase(r recipe.Recipe, phase hooks.Phase) (map[string]any, error) {
	request := d.request(phase)
	ctx, cancel := context.WithTimeout(context.Background(), recipe.Within(request.Timeout))
	defer cancel()
	switch phase {
	case hooks.PhasePrepare:
		return r.Prepare(ctx, request)
	case hooks.PhaseFreeze:
		return r.Freeze(ctx, request)
	case hooks.PhaseThaw:
		return r.Thaw(ctx, request)
	}
	return r.Post(ctx, request)
}

// held prepares and freezes.
func (d *database) held(t *testing.T, r recipe.Recipe) (prepared, frozen map[string]any) {
	t.Helper()
	prepared, err := d.phase(r, hooks.PhasePrepare)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if frozen, err = d.phase(r, hooks.PhaseFreeze); err != nil {
		t.Fatal(err)
	}
	t.Logf("freeze took %s", time.Since(begin))
	return prepared, frozen
}

// load writes to a table, one row after the other, and counts what was
// acknowledged.
func (d *database) load(t *testing.T, table string) (acknowledged *atomic.Int64, stop func()) {
	t.Helper()
	acknowledged, _, stop = d.watchedLoad(t, table)
	return acknowledged, stop
}

// watchedLoad is load that also takes down the longest time, in nanoseconds, that a row took.
func (d *database) watchedLoad(t *testing.T, table string) (acknowledged, longest *atomic.Int64, stop func()) {
	t.Helper()
	c, err := configure(Options{Socket: d.socket})
	if err != nil {
		t.Fatal(err)
	}
	s, err := open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	acknowledged, longest = &atomic.Int64{}, &atomic.Int64{}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			begin := time.Now()
			if err := s.exec(context.Background(), fmt.Sprintf("INSERT INTO shop.%s VALUES (%d)", table, acknowledged.Load())); err != nil {
				ended <- fmt.Errorf("the load on %s: %w", table, err)
				return
			}
			longest.Store(max(longest.Load(), int64(time.Since(begin))))
			acknowledged.Add(1)
		}
		ended <- nil
	}()
	return acknowledged, longest, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		_ = s.close()
	}
}

// Under load nothing is acknowledged in a hold, on no kind of table; clients see a
// pause, no error.
func TestHold(t *testing.T) {
	for _, lock := range both {
		t.Run(lock, func(t *testing.T) {
			d := shared
			d.tables(t)
			var counts []*atomic.Int64
			var stops []func()
			for _, table := range []string{"i", "m", "a"} {
				count, stop := d.load(t, table)
				counts, stops = append(counts, count), append(stops, stop)
			}
			r := d.recipe(t, Options{Lock: lock})
			prepared, frozen := d.held(t, r)
			for key, want := range map[string]any{"datadir": d.data + "/", "lock": lock, "log_bin": "ON", "innodb_flush_log_at_trx_commit": "2"} {
				if prepared[key] != want {
					t.Errorf("prepare: %s = %v, want %v", key, prepared[key], want)
				}
			}
			if w, _ := prepared["warnings"].([]string); len(w) != 1 { // that of innodb_flush_log_at_trx_commit
				t.Errorf("warnings %v", prepared["warnings"])
			}
			var before []int64
			time.Sleep(50 * time.Millisecond) // what was acknowledged is on its way to who counts
			for _, c := range counts {
				before = append(before, c.Load())
			}
			time.Sleep(1500 * time.Millisecond) // longer than wait_timeout
			for i, c := range counts {
				if now := c.Load(); now != before[i] {
					t.Errorf("table %d: %d rows were acknowledged in the hold", i, now-before[i])
				}
			}
			thawed, err := d.phase(r, hooks.PhaseThaw)
			if err != nil {
				t.Fatal(err)
			}
			at, then := frozen["binlog"].(map[string]any), thawed["binlog"].(map[string]any)
			if at["exact"] != true || at["gtid"] == "" || at["file"] == "" || at["gtid"] != then["gtid"] {
				t.Errorf("binary log %v at freeze, %v at thaw", at, then)
			}
			for end := time.Now().Add(5 * time.Second); counts[0].Load() == before[0] || counts[1].Load() == before[1]; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("clients do not go on")
				}
			}
			for _, stop := range stops {
				stop()
			}
			if _, err := d.phase(r, hooks.PhasePost); err != nil {
				t.Error(err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			d.free(t)
		})
	}
}

// Whatever takes the session away in the hold, thaw says so.
func TestHoldLost(t *testing.T) {
	d := shared
	for _, lock := range both {
		for _, test := range []struct {
			name  string
			spoil func(t *testing.T, connection string)
		}{
			{"KILL", func(t *testing.T, connection string) { d.must(t, "KILL "+connection) }},
			{"SIGKILL of the server", func(t *testing.T, _ string) { d.kill() }},
			{"SIGKILL and start", func(t *testing.T, _ string) {
				d.kill()
				if err := d.start(); err != nil {
					t.Fatal(err)
				}
			}},
		} {
			if lock != both[0] && test.name == "SIGKILL and start" {
				continue // to the recipe the same as above, and a start takes seconds
			}
			t.Run(lock+", "+test.name, func(t *testing.T) {
				d.tables(t)
				r := d.recipe(t, Options{Lock: lock})
				_, frozen := d.held(t, r)
				test.spoil(t, frozen["connection_id"].(string))
				if _, err := d.phase(r, hooks.PhaseThaw); !errors.Is(err, hooks.ErrHoldLost) {
					t.Errorf("Thaw() = %v, want ErrHoldLost", err)
				}
				if d.process.ProcessState != nil {
					if err := d.start(); err != nil {
						t.Fatal(err)
					}
				}
				d.free(t)
			})
		}
	}
}

// The lock that was let go in the session itself, as by a proxy that gives a
// session to somebody else, is noticed.
func TestHoldLetGo(t *testing.T) {
	d := shared
	d.tables(t)
	r := d.recipe(t, Options{})
	d.held(t, r)
	if err := r.(*writer).hold.exec(context.Background(), "BACKUP STAGE END"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.phase(r, hooks.PhaseThaw); !errors.Is(err, hooks.ErrHoldLost) {
		t.Errorf("Thaw() = %v, want ErrHoldLost", err)
	}
	r = d.recipe(t, Options{Lock: "read-lock"})
	d.held(t, r)
	if err := r.(*writer).hold.exec(context.Background(), "UNLOCK TABLES"); err != nil {
		t.Fatal(err)
	}
	d.must(t, "INSERT INTO shop.i VALUES (7)")
	if _, err := d.phase(r, hooks.PhaseThaw); !errors.Is(err, hooks.ErrHoldLost) || !strings.Contains(err.Error(), "committed during the hold") {
		t.Errorf("Thaw() = %v, want ErrHoldLost", err)
	}
}

// A statement that keeps the lock from being granted costs the set, not the site.
func TestLongStatement(t *testing.T) {
	d := shared
	for _, test := range []struct {
		lock, statement, at string
		limit               time.Duration
	}{
		// One second is the least lock_wait_timeout: 0.7 s are kept by KILL alone.
		{"backup-stage", "INSERT INTO shop.m SELECT SLEEP(15)", "BACKUP STAGE BLOCK_DDL: withdrawn after 700ms", time.Second},
		{"read-lock", "INSERT INTO shop.i SELECT SLEEP(15)", "FLUSH TABLES WITH READ LOCK: Error 1205", 4 * time.Second},
	} {
		t.Run(test.lock, func(t *testing.T) {
			d.tables(t)
			d.within(t, test.limit)
			r := d.recipe(t, Options{Lock: test.lock})
			if _, err := d.phase(r, hooks.PhasePrepare); err != nil {
				t.Fatal(err)
			}
			end := d.occupy(t, test.statement)
			_, longest, stop := d.watchedLoad(t, "a")
			begin := time.Now()
			_, err := d.phase(r, hooks.PhaseFreeze)
			if took := time.Since(begin); took > 2*test.limit { // some for a slow machine; the statement takes longer
				t.Errorf("the refusal took %s of %s", took, test.limit)
			}
			if err == nil || !strings.Contains(err.Error(), "cannot lock: "+test.at) || !strings.Contains(err.Error(), "has been running a statement for") {
				t.Errorf("Freeze() = %v", err)
			}
			stop() // which waits for the row that is under way
			if stalled := time.Duration(longest.Load()); stalled > 2*test.limit {
				t.Errorf("others had to wait for %s while the lock was waited for", stalled)
			} else {
				t.Logf("others waited for %s at most", stalled)
			}
			begin = time.Now()
			d.must(t, "INSERT INTO shop.a VALUES (1)", "CREATE TABLE shop.y (n INT)")
			if took := time.Since(begin); took > time.Second {
				t.Errorf("others had to wait for %s", took)
			}
			if _, err := d.phase(r, hooks.PhaseThaw); err != nil {
				t.Errorf("thaw after a failed freeze: %v", err)
			}
			end()
			d.free(t)
		})
	}
}

// A statement that has been running for long is a reason not to even begin with
// FLUSH TABLES WITH READ LOCK.
func TestReadLockBehindOldStatement(t *testing.T) {
	d := shared
	d.tables(t)
	d.within(t, 2*time.Second)
	r := d.recipe(t, Options{Lock: "read-lock"})
	if _, err := d.phase(r, hooks.PhasePrepare); err != nil {
		t.Fatal(err)
	}
	end := d.occupy(t, "SELECT SLEEP(15)")
	time.Sleep(time.Second)
	if _, err := d.phase(r, hooks.PhaseFreeze); err == nil || !strings.Contains(err.Error(), "everybody else would wait for it") {
		t.Errorf("Freeze() = %v", err)
	}
	end()
	d.free(t)
}

// The recipe's death lets the server go, whether it holds or still waits.
func TestDeath(t *testing.T) {
	d := shared
	for _, lock := range both {
		for _, waits := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, waiting %t", lock, waits), func(t *testing.T) {
				d.tables(t)
				child := exec.Command(d.program(t)) // as the server's user, by the socket: nobody's password
				child.SysProcAttr = &syscall.SysProcAttr{Credential: d.cred}
				child.Dir = d.top
				child.Env = append(os.Environ(), asRecipe+"="+lock+":"+d.socket)
				child.Stderr = os.Stderr
				in, err := child.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				out, err := child.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := child.Start(); err != nil {
					t.Fatal(err)
				}
				answers := bufio.NewReader(out)
				ask := func(phase hooks.Phase) {
					t.Helper()
					line, err := d.request(phase).Line()
					if err == nil {
						_, err = in.Write(line)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				ask(hooks.PhasePrepare)
				if said, err := answers.ReadString('\n'); !strings.HasPrefix(said, "ok ") {
					t.Fatalf("%q, %v", said, err)
				}
				end := func() {}
				if waits {
					end = d.occupy(t, "INSERT INTO shop.m SELECT SLEEP(15)")
				}
				ask(hooks.PhaseFreeze)
				if waits {
					time.Sleep(300 * time.Millisecond)
				} else if said, err := answers.ReadString('\n'); !strings.HasPrefix(said, "ok ") {
					t.Fatalf("%q, %v", said, err)
				}
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				_ = child.Wait()
				if waits {
					time.Sleep(time.Second) // the server looks once a second whether the client of a lock that waits is there
				}
				begin := time.Now()
				d.must(t, "INSERT INTO shop.a VALUES (1)")
				if took := time.Since(begin); took > 2*time.Second {
					t.Errorf("others had to wait for %s", took)
				}
				end()
				d.free(t)
			})
		}
	}
}

func TestRights(t *testing.T) {
	d := shared
	d.tables(t)
	t.Cleanup(func() { d.must(t, "DROP USER IF EXISTS weak@localhost") })
	d.must(t, "CREATE USER weak@localhost IDENTIFIED BY 'it''s #1'")
	file := filepath.Join(t.TempDir(), "login.cnf")
	try := func(lock, password, want string) {
		t.Helper()
		content := fmt.Sprintf("[client]\nuser=weak\npassword=\"%s\"\nsocket=%s\n", password, d.socket)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		r := d.recipe(t, Options{DefaultsFile: file, Lock: lock})
		_, err := d.phase(r, hooks.PhasePrepare)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
		_ = r.Close()
	}
	try("", "wrong", "cannot connect as weak to "+d.socket)
	try("", "it's #1", "GRANT RELOAD ON *.* TO 'weak'@'localhost'")
	d.must(t, "GRANT RELOAD ON *.* TO weak@localhost")
	try("", "it's #1", "GRANT BINLOG MONITOR ON *.* TO 'weak'@'localhost'")
	d.must(t, "GRANT BINLOG MONITOR ON *.* TO weak@localhost")
	try("", "it's #1", "")
	try("read-lock", "it's #1", "GRANT RELOAD, PROCESS ON *.* TO 'weak'@'localhost'")
	d.must(t, "GRANT PROCESS ON *.* TO weak@localhost")
	try("read-lock", "it's #1", "")
}

// Every file of the server has to be in the set.
func TestPlacesOfServer(t *testing.T) {
	d := shared
	d.tables(t)
	refused := func(request hooks.Request, want string) {
		t.Helper()
		_, err := d.recipe(t, Options{}).Prepare(context.Background(), request)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	elsewhere := d.request(hooks.PhasePrepare)
	elsewhere.Volumes = []string{"/dev/shm"}
	refused(elsewhere, "the data directory "+d.data+" is on none of the set's volumes (/dev/shm)")
	space, err := os.MkdirTemp("/dev/shm", "mariadb")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(space)
	if err := os.Chown(space, int(d.cred.Uid), int(d.cred.Gid)); err != nil {
		t.Fatal(err)
	}
	for _, table := range []struct{ engine, file string }{{"InnoDB", "f.isl " + space + "/shop"}, {"MyISAM", "f.MYD " + space}} {
		d.must(t, fmt.Sprintf("CREATE TABLE shop.f (n INT) ENGINE=%s DATA DIRECTORY='%s'", table.engine, space))
		refused(d.request(hooks.PhasePrepare), "the table file shop/"+table.file+" is on none")
		with := d.request(hooks.PhasePrepare)
		with.Volumes = append(with.Volumes, "/dev/shm")
		refused(with, "")
		d.must(t, "DROP TABLE shop.f")
	}
}

// A server that does not answer is down only if that is proven.
func TestInactive(t *testing.T) {
	d := shared
	d.tables(t)
	down := func(data string) error {
		_, err := d.phase(d.recipe(t, Options{Socket: filepath.Join(d.top, "none"), DataDirectory: data}), hooks.PhasePrepare)
		return err
	}
	if err := down(""); err == nil || !strings.Contains(err.Error(), "is a server") {
		t.Errorf("beside a server: %v", err)
	}
	if err := down(d.data); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d serves %s", d.process.Process.Pid, d.data)) {
		t.Errorf("with the data directory of a running one: %v", err)
	}
	d.kill()
	if err := down(d.data); !recipe.IsInactive(err) {
		t.Errorf("with its data directory: %v", err)
	}
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
}
