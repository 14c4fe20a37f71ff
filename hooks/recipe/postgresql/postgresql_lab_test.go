//go:build lab

package postgresql

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

// set is what a recipe is told of a set with the cluster's own filesystem.
func (c *cluster) set(phase hooks.Phase) hooks.Request {
	return hooks.Request{Phase: phase, Timeout: 30 * time.Second, Event: hooks.Event{Set: "s1", Volumes: []string{c.top}}}
}

func (c *cluster) recipe(o Options) recipe.Recipe {
	c.t.Helper()
	if o.DSN == "" {
		o.DSN = c.dsn("postgres")
	}
	r, err := New(o)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = r.Close() })
	return r
}

// held prepares and freezes.
func (c *cluster) held(r recipe.Recipe) (prepared, frozen map[string]any) {
	c.t.Helper()
	ctx := context.Background()
	prepared, err := r.Prepare(ctx, c.set(hooks.PhasePrepare))
	if err != nil {
		c.t.Fatal(err)
	}
	begin := time.Now()
	frozen, err = r.Freeze(ctx, c.set(hooks.PhaseFreeze))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Logf("freeze took %s", time.Since(begin))
	return prepared, frozen
}

func TestHold(t *testing.T) {
	c := newCluster(t)
	c.configure("idle_session_timeout = 100ms", "idle_in_transaction_session_timeout = 100ms")
	c.ctl("reload")
	c.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
	before := c.sql("SELECT redo_lsn FROM pg_control_checkpoint()")
	r := c.recipe(Options{})
	prepared, frozen := c.held(r)
	for key, want := range map[string]any{
		"data_directory": c.data, "wal_directory": filepath.Join(c.data, "pg_wal"), "in_recovery": false, "backup_mode": false,
		"system_identifier": c.sql("SELECT system_identifier FROM pg_control_system()"),
	} {
		if prepared[key] != want {
			t.Errorf("prepare: %s = %v, want %v", key, prepared[key], want)
		}
	}
	if prepared["warnings"] != nil {
		t.Errorf("warnings %v", prepared["warnings"])
	}
	if after := c.sql("SELECT redo_lsn FROM pg_control_checkpoint()"); after == before {
		t.Error("prepare made no checkpoint")
	}
	if c.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'fermata'") != "1" {
		t.Error("there is not exactly one session")
	}
	c.sql("INSERT INTO t VALUES (0)") // clients go on
	time.Sleep(500 * time.Millisecond)
	thawed, err := r.Thaw(context.Background(), c.set(hooks.PhaseThaw))
	if err != nil {
		t.Fatal(err)
	}
	if c.sql(fmt.Sprintf("SELECT '%s'::pg_lsn > '%s'::pg_lsn", thawed["lsn"], frozen["lsn"])) != "t" {
		t.Errorf("positions %v, %v", frozen["lsn"], thawed["lsn"])
	}
	if _, err := r.Post(context.Background(), c.set(hooks.PhasePost)); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	c.awaitNoSession()
}

// awaitNoSession fails if the recipe's session does not vanish from the server.
func (c *cluster) awaitNoSession() {
	c.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if c.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'fermata'") == "0" {
			return
		}
	}
	c.t.Error("the session is still there")
}

func TestBackupMode(t *testing.T) {
	c := newCluster(t)
	space := folder(t, "/dev/shm") // another filesystem, which backup mode does not mind
	c.sql(fmt.Sprintf("CREATE TABLESPACE elsewhere LOCATION '%s'", space))
	r := c.recipe(Options{BackupMode: true})
	c.held(r)
	data, err := r.Thaw(context.Background(), c.set(hooks.PhaseThaw))
	if err != nil {
		t.Fatal(err)
	}
	label, _ := data["backup_label"].(string)
	tablespaces, _ := data["tablespace_map"].(string)
	if !strings.Contains(label, "LABEL: fermata s1\n") || !strings.Contains(tablespaces, space) || data["stop_lsn"] == "" {
		t.Errorf("thaw said %v", data)
	}
}

// Abort leaves no backup running.
func TestBackupModeAborted(t *testing.T) {
	c := newCluster(t)
	r := c.recipe(Options{BackupMode: true})
	c.held(r)
	if err := r.Abort(context.Background(), c.set(hooks.PhaseAbort)); err != nil {
		t.Fatal(err)
	}
	c.awaitNoSession()
}

// Whatever takes the session away in the hold, thaw says so.
func TestHoldLost(t *testing.T) {
	c := newCluster(t)
	for name, kill := range map[string]func(c *cluster, backend string){
		"pg_terminate_backend": func(c *cluster, backend string) { c.sql("SELECT pg_terminate_backend(" + backend + ", 5000)") },
		"SIGKILL of the backend": func(c *cluster, backend string) {
			pid, err := strconv.Atoi(backend)
			if err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		},
		"restart":           func(c *cluster, _ string) { c.ctl("-m", "fast", "restart") },
		"immediate restart": func(c *cluster, _ string) { c.ctl("-m", "immediate", "restart") },
		"stop":              func(c *cluster, _ string) { c.ctl("-m", "immediate", "stop") },
	} {
		for _, backupMode := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, backup mode %t", name, backupMode), func(t *testing.T) {
				c.revive()
				r := c.recipe(Options{BackupMode: backupMode})
				_, frozen := c.held(r)
				kill(c, frozen["backend_pid"].(string))
				if _, err := r.Thaw(context.Background(), c.set(hooks.PhaseThaw)); !errors.Is(err, hooks.ErrHoldLost) {
					t.Errorf("Thaw() = %v, want ErrHoldLost", err)
				}
			})
		}
	}
}

func TestRights(t *testing.T) {
	c := newCluster(t)
	c.sql("CREATE ROLE weak LOGIN")
	try := func(o Options, want string) {
		t.Helper()
		o.DSN = c.dsn("weak")
		r := c.recipe(o)
		defer r.Close()
		_, err := r.Prepare(context.Background(), c.set(hooks.PhasePrepare))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	try(Options{}, "GRANT pg_monitor TO weak")
	c.sql("GRANT pg_monitor TO weak")
	try(Options{}, "GRANT pg_checkpoint TO weak")
	c.sql("GRANT pg_checkpoint TO weak")
	try(Options{}, "")
	try(Options{BackupMode: true}, "GRANT EXECUTE ON FUNCTION pg_backup_start(text,boolean), pg_backup_stop(boolean) TO weak")
	c.sql("GRANT EXECUTE ON FUNCTION pg_backup_start(text,boolean), pg_backup_stop(boolean) TO weak")
	try(Options{BackupMode: true}, "")
}

func TestRefusals(t *testing.T) {
	c := newCluster(t)
	space := folder(t, "/dev/shm")
	ctx := context.Background()
	refused := func(r hooks.Request, want string) {
		t.Helper()
		if _, err := c.recipe(Options{}).Prepare(ctx, r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	elsewhere := c.set(hooks.PhasePrepare)
	elsewhere.Volumes = []string{"/dev/shm"}
	refused(elsewhere, "the data directory "+c.data+" is on none of the set's volumes (/dev/shm)")
	c.sql(fmt.Sprintf("CREATE TABLESPACE elsewhere LOCATION '%s'", space))
	refused(c.set(hooks.PhasePrepare), "the tablespace elsewhere "+space+" is on none")
	both := c.set(hooks.PhasePrepare)
	both.Volumes = append(both.Volumes, "/dev/shm")
	if _, err := c.recipe(Options{}).Prepare(ctx, both); err != nil {
		t.Error(err)
	}
	c.configure("fsync = off")
	c.ctl("reload")
	for end := time.Now().Add(10 * time.Second); c.sql("SHOW fsync") == "on" && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	refused(both, "fsync is off")
}

// Inactive needs proof: with another server on the host only a data directory
// can give it.
func TestInactive(t *testing.T) {
	stopped, running := newCluster(t), newCluster(t)
	stopped.ctl("stop")
	down := func(o Options) error {
		o.DSN = stopped.dsn("postgres")
		_, err := stopped.recipe(o).Prepare(context.Background(), stopped.set(hooks.PhasePrepare))
		return err
	}
	if err := down(Options{}); err == nil || !strings.Contains(err.Error(), "is a PostgreSQL server") {
		t.Errorf("beside another server: %v", err)
	}
	if err := down(Options{DataDirectory: stopped.data}); !recipe.IsInactive(err) {
		t.Errorf("with its data directory: %v", err)
	}
	if err := down(Options{DataDirectory: running.data}); err == nil || recipe.IsInactive(err) {
		t.Errorf("with the data directory of a running one: %v", err)
	}
	running.ctl("-m", "immediate", "stop")
	if err := down(Options{DataDirectory: running.data}); !recipe.IsInactive(err) {
		t.Errorf("with a stale postmaster.pid: %v", err)
	}
}

// newStandby makes and starts a standby of c.
func newStandby(c *cluster, settings ...string) *cluster {
	s := emptyCluster(c.t)
	s.as("pg_basebackup", "-h", c.top, "-p", strconv.Itoa(c.port), "-U", "postgres", "-D", s.data, "-R", "-c", "fast", "--no-sync")
	s.configure(settings...)
	return s
}

func TestStandby(t *testing.T) {
	c := newCluster(t)
	s := newStandby(c)
	s.start()
	for _, backupMode := range []bool{false, true} {
		r := s.recipe(Options{BackupMode: backupMode})
		prepared, frozen := s.held(r)
		if prepared["in_recovery"] != true || frozen["lsn"] == "" {
			t.Errorf("%v, %v", prepared, frozen)
		}
		data, err := r.Thaw(context.Background(), s.set(hooks.PhaseThaw))
		if err != nil {
			t.Error(err)
		}
		if label, _ := data["backup_label"].(string); backupMode && !strings.Contains(label, "BACKUP FROM: standby") {
			t.Errorf("label %q", label)
		}
	}
}

// A server that is up but lets nobody in is not inactive.
func TestStartingIsNotInactive(t *testing.T) {
	c := newCluster(t)
	s := newStandby(c, "hot_standby = off") // answers as a starting server does, for ever
	s.ctl("-W", "start")
	until := time.Now().Add(30 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		_, err := s.recipe(Options{DataDirectory: s.data}).Prepare(ctx, s.set(hooks.PhasePrepare))
		cancel()
		if hasCode(err, codeCannotConnectNow) || errors.Is(err, context.DeadlineExceeded) {
			return
		}
		if err == nil || time.Now().After(until) { // in its first moments it is not there yet
			t.Fatalf("Prepare() = %v", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
