package mysql

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

// recipe is one for the fake, with the given password.
func (f *fake) recipe(o Options, password string) recipe.Recipe {
	f.t.Helper()
	o.DefaultsFile = filepath.Join(f.t.TempDir(), "login.cnf")
	content := fmt.Sprintf("[client]\nuser=backup\npassword='%s'\nsocket=%s\n", password, f.socket)
	if err := os.WriteFile(o.DefaultsFile, []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
	r, err := New(o)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = r.Close() })
	return r
}

// request is that of a set with the fake's filesystem.
func (f *fake) request(phase hooks.Phase) hooks.Request {
	return hooks.Request{Phase: phase, Timeout: 10 * time.Second, Event: hooks.Event{Set: "s1", Volumes: []string{f.data}}}
}

// held prepares and freezes.
func (f *fake) held(r recipe.Recipe) (prepared, frozen map[string]any) {
	f.t.Helper()
	prepared, err := r.Prepare(context.Background(), f.request(hooks.PhasePrepare))
	if err == nil {
		frozen, err = r.Freeze(context.Background(), f.request(hooks.PhaseFreeze))
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return prepared, frozen
}

// other makes a table of another engine than InnoDB.
func (f *fake) other() {
	if err := os.WriteFile(filepath.Join(f.data, "shop/m_301.sdi"), nil, 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// Every statement of a whole set, for each kind of server.
func TestStatements(t *testing.T) {
	const connection = "SELECT CONNECTION_ID() AS id"
	variables := "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('" + strings.Join(variables, "', '") + "')"
	const files = "SELECT FILE_NAME AS path FROM information_schema.FILES WHERE FILE_TYPE IN ('TABLESPACE', 'UNDO LOG') AND FILE_NAME NOT LIKE './%'"
	locate := func(show string) []string {
		return []string{"101: " + connection, "101: SHOW GLOBAL STATUS LIKE 'Uptime'", "101: " + show}
	}
	settings := func(seconds int) []string {
		s := fmt.Sprintf(": SET SESSION lock_wait_timeout = %d, wait_timeout = 86400", seconds)
		return []string{"101" + s, "102" + s}
	}
	join := func(parts ...[]string) (all []string) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	begin := join([]string{"101: " + connection, "102: " + connection, "101: SELECT VERSION() AS version, CURRENT_USER() AS user", "101: " + variables}, settings(5))
	end := []string{"101: quit", "102: quit"}
	instance := func(show string) []string {
		return join(begin, []string{"101: " + files, "101: LOCK INSTANCE FOR BACKUP", "101: UNLOCK INSTANCE"}, locate(show),
			settings(7), []string{"101: LOCK INSTANCE FOR BACKUP"}, locate(show), locate(show), []string{"101: UNLOCK INSTANCE"}, end)
	}
	readLock := func(prepare ...string) []string {
		return join(begin, prepare, []string{"101: FLUSH LOCAL ENGINE LOGS", "101: SHOW ENGINE INNODB STATUS"}, locate("SHOW MASTER STATUS"),
			settings(7), []string{"102: SHOW PROCESSLIST", "101: FLUSH TABLES WITH READ LOCK"},
			locate("SHOW MASTER STATUS"), locate("SHOW MASTER STATUS"), []string{"101: UNLOCK TABLES"}, end)
	}
	for _, test := range []struct {
		name, version string
		options       Options
		others        bool
		lock          string
		exact         bool
		want          []string
	}{
		{"8.0", "8.0.36", Options{}, false, "instance", false, instance("SHOW MASTER STATUS")},
		{"8.4", "8.4.3", Options{}, false, "instance", false, instance("SHOW BINARY LOG STATUS")},
		{"8.0 with MyISAM", "8.0.36", Options{}, true, "read-lock", true, readLock("101: " + files)},
		{"8.0 with read-lock", "8.0.36", Options{Lock: "read-lock"}, false, "read-lock", true, readLock("101: " + files)},
		{"5.7", "5.7.44-log", Options{}, false, "read-lock", true, readLock()},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t, test.version)
			if test.others {
				f.other()
			}
			r := f.recipe(test.options, password)
			prepared, frozen := f.held(r)
			if prepared["lock"] != test.lock || prepared["server_version"] != test.version || prepared["datadir"] != f.data+"/" || prepared["warnings"] != nil {
				t.Errorf("prepare: %v", prepared)
			}
			want := map[string]any{"connection_id": "101", "uptime_seconds": 100,
				"binlog": map[string]any{"file": "binlog.000007", "position": "157", "gtid": f.gtid, "exact": test.exact}}
			if d := cmp.Diff(want, frozen); d != "" {
				t.Error(d)
			}
			if thawed, err := r.Thaw(context.Background(), f.request(hooks.PhaseThaw)); err != nil || !cmp.Equal(want, thawed) {
				t.Errorf("Thaw() = %v, %v", thawed, err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			f.awaitNobody()
			said := f.statements()
			slices.Sort(said[len(said)-2:]) // who leaves first does not matter
			if d := cmp.Diff(test.want, said); d != "" {
				t.Error(d)
			}
		})
	}
}

// Whatever befalls the session in the hold, thaw says so, and leaves none.
func TestWireHoldLost(t *testing.T) {
	for _, test := range []struct {
		name   string
		others bool
		spoil  func(f *fake)
		want   string
	}{
		{"KILL", false, func(f *fake) { f.kill(firstConnection) }, ""},
		{"server gone", false, func(f *fake) { f.stop() }, ""},
		{"restarted behind a proxy", false, func(f *fake) { f.uptime = 3 }, "restarted"},
		{"another session", false, func(f *fake) {
			f.answer = func(_ int, statement string) (*table, error) {
				if statement == "SELECT CONNECTION_ID() AS id" {
					return &table{[]string{"id"}, [][]string{{"200"}}}, nil
				}
				return nil, nil
			}
		}, "connection 200 answers instead of 101"},
		{"committed under the read lock", true, func(f *fake) { f.gtid = "x:1-6" }, "committed during the hold"},
		{"committed without GTID", true, func(f *fake) { f.at = "201" }, "from binlog.000007:157 to binlog.000007:201"},
		{"not released", true, func(f *fake) {
			f.answer = func(_ int, statement string) (*table, error) {
				if statement == "UNLOCK TABLES" {
					return nil, &serverError{1317, "Query execution was interrupted"}
				}
				return nil, nil
			}
		}, "interrupted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t, "8.0.36")
			if test.others {
				f.other()
			}
			if strings.Contains(test.name, "without GTID") {
				f.gtid = ""
			}
			r := f.recipe(Options{}, password)
			f.held(r)
			if test.want == "" {
				test.spoil(f)
			} else {
				f.mu.Lock()
				test.spoil(f)
				f.mu.Unlock()
			}
			_, err := r.Thaw(context.Background(), f.request(hooks.PhaseThaw))
			if !errors.Is(err, hooks.ErrHoldLost) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Thaw() = %v, want ErrHoldLost, %q", err, test.want)
			}
			f.stop()
		})
	}
}

// A commit under the instance lock is nobody's fault.
func TestWireInstanceLetsCommit(t *testing.T) {
	f := newFake(t, "8.0.36")
	r := f.recipe(Options{}, password)
	f.held(r)
	f.mu.Lock()
	f.gtid = "x:1-6"
	f.mu.Unlock()
	if _, err := r.Thaw(context.Background(), f.request(hooks.PhaseThaw)); err != nil {
		t.Error(err)
	}
}

// neverLocks makes the server wait for its lock until the end of the test.
func (f *fake) neverLocks(t *testing.T) {
	waiting := make(chan struct{})
	t.Cleanup(func() { close(waiting) })
	f.answer = func(_ int, statement string) (*table, error) {
		if statement == "FLUSH TABLES WITH READ LOCK" {
			<-waiting
		}
		return nil, nil
	}
}

// A lock that is not granted is withdrawn by the second session, in time.
func TestWireWithdrawn(t *testing.T) {
	f := newFake(t, "8.0.36")
	f.other()
	f.neverLocks(t)
	r := f.recipe(Options{}, password)
	if _, err := r.Prepare(context.Background(), f.request(hooks.PhasePrepare)); err != nil {
		t.Fatal(err)
	}
	request := f.request(hooks.PhaseFreeze)
	request.Timeout = time.Second
	begin := time.Now()
	_, err := r.Freeze(context.Background(), request)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	if err == nil || !strings.Contains(err.Error(), "cannot lock: FLUSH TABLES WITH READ LOCK: withdrawn after 700ms") {
		t.Errorf("Freeze() = %v", err)
	}
	said := strings.Join(f.statements(), "\n")
	if !strings.Contains(said, "\n102: KILL 101\n") {
		t.Errorf("no KILL among\n%s", said)
	}
	if _, err := r.Thaw(context.Background(), f.request(hooks.PhaseThaw)); err != nil {
		t.Errorf("thaw after a failed freeze: %v", err)
	}
}

// FLUSH TABLES WITH READ LOCK is not begun behind an old statement.
func TestWireOldStatement(t *testing.T) {
	f := newFake(t, "5.7.44")
	f.answer = func(_ int, statement string) (*table, error) {
		if statement == "SHOW PROCESSLIST" {
			return &table{[]string{"Id", "User", "Host", "db", "Command", "Time", "State", "Info"},
				[][]string{{"7", "report", "localhost", "shop", "Query", "41", "Sending data", "SELECT 1"}}}, nil
		}
		return nil, nil
	}
	r := f.recipe(Options{}, password)
	if _, err := r.Prepare(context.Background(), f.request(hooks.PhasePrepare)); err != nil {
		t.Fatal(err)
	}
	request := f.request(hooks.PhaseFreeze)
	request.Timeout = time.Second
	_, err := r.Freeze(context.Background(), request)
	if want := "connection 7 (report@localhost) has been running a statement for 41 s"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Freeze() = %v, want %q", err, want)
	}
	if said := strings.Join(f.statements(), "\n"); strings.Contains(said, "FLUSH TABLES WITH READ LOCK") {
		t.Errorf("it locked:\n%s", said)
	}
}

// A right that is missing is named with the statement that gives it.
func TestWireRights(t *testing.T) {
	for _, test := range []struct{ refused, want string }{
		{"LOCK INSTANCE FOR BACKUP", "GRANT BACKUP_ADMIN ON *.* TO 'backup'@'localhost'"},
		{"SELECT FILE_NAME", "GRANT PROCESS ON *.* TO 'backup'@'localhost'"},
		{"SHOW MASTER STATUS", "GRANT REPLICATION CLIENT ON *.* TO 'backup'@'localhost'"},
	} {
		f := newFake(t, "8.0.36")
		f.answer = func(_ int, statement string) (*table, error) {
			if strings.HasPrefix(statement, test.refused) {
				return nil, &serverError{errSpecificAccess, "Access denied; you need (at least one of) some privilege(s) for this operation"}
			}
			return nil, nil
		}
		_, err := f.recipe(Options{}, password).Prepare(context.Background(), f.request(hooks.PhasePrepare))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.refused, err, test.want)
		}
	}
	f := newFake(t, "8.0.36")
	_, err := f.recipe(Options{}, "wrong").Prepare(context.Background(), f.request(hooks.PhasePrepare))
	if err == nil || !strings.Contains(err.Error(), "cannot connect as backup") || strings.Contains(err.Error(), "wrong") {
		t.Errorf("with a wrong password: %v", err)
	}
}

// A tablespace elsewhere has to be in the set.
func TestWireTablespace(t *testing.T) {
	f := newFake(t, "8.0.36")
	space, err := os.MkdirTemp("/dev/shm", "mysql")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(space) })
	file := filepath.Join(space, "far.ibd")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f.answer = func(_ int, statement string) (*table, error) {
		if strings.HasPrefix(statement, "SELECT FILE_NAME") {
			return &table{[]string{"path"}, [][]string{{file}}}, nil
		}
		return nil, nil
	}
	request := f.request(hooks.PhasePrepare)
	if _, err := f.recipe(Options{}, password).Prepare(context.Background(), request); !errors.Is(err, recipe.ErrOutside) || !strings.Contains(err.Error(), "tablespace "+file) {
		t.Errorf("Prepare() = %v", err)
	}
	request.Volumes = append(request.Volumes, "/dev/shm")
	if _, err := f.recipe(Options{}, password).Prepare(context.Background(), request); err != nil {
		t.Errorf("Prepare() = %v", err)
	}
}

// A server that is not there is inactive if its files are nobody's.
func TestWireInactive(t *testing.T) {
	f := newFake(t, "8.0.36")
	f.stop()
	r := f.recipe(Options{DataDirectory: f.data}, password)
	if _, err := r.Prepare(context.Background(), f.request(hooks.PhasePrepare)); !recipe.IsInactive(err) {
		t.Errorf("Prepare() = %v", err)
	}
	if _, err := r.Freeze(context.Background(), f.request(hooks.PhaseFreeze)); err == nil {
		t.Error("it froze what it does not have")
	}
}

// The end of the input lets go of a lock that is held, and of one that is waited for.
func TestWireEnd(t *testing.T) {
	f := newFake(t, "8.0.36")
	f.other()
	f.neverLocks(t)
	r := f.recipe(Options{}, password)
	if _, err := r.Prepare(context.Background(), f.request(hooks.PhasePrepare)); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer end()
	begin := time.Now()
	if _, err := r.Freeze(ctx, f.request(hooks.PhaseFreeze)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Freeze() = %v", err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}
