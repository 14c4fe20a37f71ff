package postgresql

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
	"github.com/jackc/pgx/v5/pgconn"
)

func TestConfigure(t *testing.T) {
	for _, test := range []struct {
		dsn            string
		host, database string
	}{
		{"", "/var/run/postgresql", "postgres"},
		{"host=/tmp/pg port=5433", "/tmp/pg", "postgres"},
		{"postgres://admin@localhost:5999/db", "localhost", "db"},
	} {
		c, err := configure(Options{DSN: test.dsn})
		if err != nil {
			t.Fatal(err)
		}
		if c.Host != test.host || c.Database != test.database || c.RuntimeParams["application_name"] != "fermata" ||
			c.RuntimeParams["search_path"] != "pg_catalog" || c.ConnectTimeout == 0 {
			t.Errorf("%q: %+v", test.dsn, c)
		}
	}
	if _, err := configure(Options{DSN: "host="}); err != nil {
		t.Errorf("an empty host is the default's: %v", err)
	}
	if _, err := configure(Options{DSN: "port=many"}); err == nil {
		t.Error("a bad port was accepted")
	}
	if _, err := New(Options{DSN: "a", Service: "b"}); err == nil {
		t.Error("DSN and service were accepted together")
	}
	services := filepath.Join(t.TempDir(), "services")
	if err := os.WriteFile(services, []byte("[it's]\nhost=/run/other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PGSERVICEFILE", services)
	if c, err := configure(Options{Service: "it's"}); err != nil || c.Host != "/run/other" {
		t.Errorf("service: %+v, %v", c, err)
	}
}

func TestProvenDown(t *testing.T) {
	process := func(name string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(name + "\n")} }
	idle := fstest.MapFS{"1/comm": process("systemd"), "self": {}, "77/comm": process("postgres_exporter")}
	busy := fstest.MapFS{"1/comm": process("systemd"), "4711/comm": process("postgres")}
	empty, stale := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(stale, "postmaster.pid"), []byte("4711\n/data\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "postmaster.pid"), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, host, data string
		proc             fs.FS
		want             string // part of the doubt; empty: it is down
	}{
		{"nothing runs", "/run/postgresql", "", idle, ""},
		{"nothing runs, loopback", "127.0.0.1", "", idle, ""},
		{"something runs", "/run/postgresql", "", busy, "process 4711 is a PostgreSQL server"},
		{"another host", "db.example", "", idle, "cannot be seen from here"},
		{"no postmaster.pid", "/run/postgresql", empty, busy, ""},
		{"stale postmaster.pid", "/run/postgresql", stale, idle, ""},
		{"live postmaster.pid", "/run/postgresql", stale, busy, "process 4711 serves"},
		{"broken postmaster.pid", "/run/postgresql", broken, busy, "cannot be understood"},
		{"no such data directory", "/run/postgresql", filepath.Join(empty, "none"), idle, "no such file"},
		{"no list of processes", "/run/postgresql", "", os.DirFS(filepath.Join(empty, "none")), "list of processes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := provenDown(test.host, test.data, test.proc)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestPlaces(t *testing.T) {
	top := t.TempDir()
	for _, dir := range []string{"data/pg_tblspc/7", "wal", "ts"} {
		if err := os.MkdirAll(filepath.Join(top, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"data/pg_wal": "wal", "link": "data"} {
		if err := os.Symlink(filepath.Join(top, target), filepath.Join(top, link)); err != nil {
			t.Fatal(err)
		}
	}
	s := server{dataDirectory: filepath.Join(top, "link"), tablespaces: []tablespace{{"inside", "pg_tblspc/7"}, {"t", filepath.Join(top, "ts")}}}
	got, err := s.places("")
	want := []recipe.Place{
		{What: "data directory", Path: filepath.Join(top, "data")},
		{What: "write-ahead log", Path: filepath.Join(top, "wal")},
		{What: "tablespace inside", Path: filepath.Join(top, "data/pg_tblspc/7")},
		{What: "tablespace t", Path: filepath.Join(top, "ts")},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("places() = %v, %v", got, err)
	}
	if got, err := s.places(filepath.Join(top, "ts")); err != nil || got[1].Path != filepath.Join(top, "ts") {
		t.Errorf("places() = %v, %v", got, err)
	}
	for _, bad := range []server{
		{dataDirectory: filepath.Join(top, "none")},
		{dataDirectory: top},
		{dataDirectory: s.dataDirectory, tablespaces: []tablespace{{"t", filepath.Join(top, "none")}}},
	} {
		if _, err := bad.places(""); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestSameSession(t *testing.T) {
	p := position{backend: "10", started: "1.5", lsn: "0/1", timeline: "1"}
	for _, test := range []struct {
		now position
		ok  bool
	}{
		{p, true},
		{position{backend: "10", started: "1.5", lsn: "0/9", timeline: "2"}, true},
		{position{backend: "11", started: "1.5", lsn: "0/1", timeline: "1"}, false},
		{position{backend: "10", started: "2.5", lsn: "0/1", timeline: "1"}, false},
	} {
		if err := p.sameSession(test.now); (err == nil) != test.ok {
			t.Errorf("sameSession(%+v) = %v", test.now, err)
		}
	}
}

func TestStatements(t *testing.T) {
	if got, want := (server{version: 150006}).backupStart("it's"), "SELECT pg_backup_start('it''s', true)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := (server{version: 140006}).backupStart("x"), "SELECT pg_start_backup('x', true, false)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for version, want := range map[int]string{130000: "", 150006: "SET idle_session_timeout = 0", 170002: "SET idle_session_timeout = 0; SET transaction_timeout = 0"} {
		if got := (server{version: version}).noTimeouts(); got != want {
			t.Errorf("%d: %s, want %s", version, got, want)
		}
	}
	if got := (server{version: 140006}).backupStop(); !strings.HasSuffix(got, "pg_stop_backup(false, false)") {
		t.Error(got)
	}
}

func TestConditions(t *testing.T) {
	for _, test := range []struct {
		name    string
		writer  writer
		request hooks.Request
		want    string
		warned  int
	}{
		{"fsync off", writer{}, hooks.Request{}, "fsync is off", 0},
		{"no volumes", writer{server: server{fsync: true}}, hooks.Request{}, "names no volumes", 0},
		{"no volumes in a dry run", writer{server: server{fsync: true}}, hooks.Request{Event: hooks.Event{DryRun: true}}, "", 2},
		{"backup mode", writer{options: Options{BackupMode: true}, server: server{asyncCommit: true}}, hooks.Request{}, "", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			warnings, err := test.writer.conditions(test.request)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if len(warnings) != test.warned {
				t.Errorf("warnings %q", warnings)
			}
		})
	}
}

func TestBackupData(t *testing.T) {
	data := map[string]any{}
	if err := backupData([][]string{{"0/1", "label", ""}}, data); err != nil || data["backup_label"] != "label" {
		t.Errorf("%v, %v", data, err)
	}
	for _, rows := range [][][]string{nil, {{"0/1"}}, {{"0/1", "label", strings.Repeat("x", maxLabel)}}} {
		if err := backupData(rows, data); err == nil {
			t.Errorf("%d rows were accepted", len(rows))
		}
	}
}

func TestRemedies(t *testing.T) {
	denied := fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: codeInsufficientPrivilege})
	if err := checkpointRefused(server{version: 150000, user: "u"}, denied); !strings.Contains(err.Error(), "GRANT pg_checkpoint TO u") {
		t.Error(err)
	}
	if err := checkpointRefused(server{version: 140000}, denied); !strings.Contains(err.Error(), "superuser") {
		t.Error(err)
	}
	if err := granted(fs.ErrClosed, "x"); err != fs.ErrClosed {
		t.Error(err)
	}
}
