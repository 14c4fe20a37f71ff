//go:build lab

package mysql

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fermata-project/fermata/hooks/recipe"
)

// database is a server of the tests' own, run by user mysql. All tests share it:
// to make one takes seconds.
type database struct {
	top, data, socket string
	cred              *syscall.Credential
	process           *exec.Cmd
	limit             time.Duration // of each phase
}

var shared *database

// asRecipe in the environment makes the test's own program the recipe, for the
// server whose socket it names; "LOCK:SOCKET".
const asRecipe = "TEST_AS_RECIPE"

func TestMain(m *testing.M) {
	if lock, socket, ok := strings.Cut(os.Getenv(asRecipe), ":"); ok {
		r, err := New(Options{Socket: socket, Lock: lock})
		if err == nil {
			err = recipe.Serve(context.Background(), os.Stdin, os.Stdout, r)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(func() int {
		var err error
		if shared, err = newDatabase(); err == nil {
			defer os.RemoveAll(shared.top)
			err = shared.start()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer shared.kill()
		return m.Run()
	}())
}

func newDatabase() (*database, error) {
	u, err := user.Lookup("mysql")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, err
	}
	top, err := os.MkdirTemp("", "mariadb")
	if err != nil {
		return nil, err
	}
	d := &database{limit: 4 * time.Second, top: top, data: filepath.Join(top, "data"), socket: filepath.Join(top, "socket"),
		cred: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	if err := os.Chown(top, uid, gid); err != nil {
		return nil, err
	}
	c := exec.Command("mariadb-install-db", "--no-defaults", "--user=mysql", "--datadir="+d.data, "--skip-test-db",
		"--auth-root-authentication-method=socket", "--innodb-log-file-size=4M", "--loose-innodb-buffer-pool-size-max=64M",
		"--innodb-buffer-pool-size=16M", "--skip-name-resolve")
	if out, err := c.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return d, nil
}

// start runs the server and waits until it lets one in.
func (d *database) start() error {
	var log bytes.Buffer
	d.process = exec.Command("mariadbd", "--no-defaults", "--datadir="+d.data, "--socket="+d.socket, "--pid-file="+d.top+"/pid",
		"--skip-networking", "--loose-innodb-buffer-pool-size-max=64M", "--innodb-buffer-pool-size=16M", "--innodb-log-file-size=4M",
		"--log-bin=binlog", "--server-id=1", "--innodb-flush-log-at-trx-commit=2", "--loose-skip-log-error",
		"--wait-timeout=1", "--max-statement-time=20")
	d.process.Dir = d.top
	d.process.Stderr = &log
	d.process.SysProcAttr = &syscall.SysProcAttr{Credential: d.cred}
	if err := d.process.Start(); err != nil {
		return err
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		_, err := d.sql("SELECT 1 AS one")
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			d.kill()
			return fmt.Errorf("the server does not come up: %w: %s", err, log.Bytes())
		}
	}
}

func (d *database) kill() {
	_ = d.process.Process.Kill()
	_ = d.process.Wait()
}

// sql runs statements as root in a session of their own.
func (d *database) sql(statements ...string) (rows []row, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := configure(Options{Socket: d.socket})
	if err != nil {
		return nil, err
	}
	s, err := open(ctx, c)
	if err != nil {
		return nil, err
	}
	defer s.close()
	for _, statement := range statements {
		if rows, err = s.query(ctx, statement); err != nil {
			return nil, fmt.Errorf("%s: %w", statement, err)
		}
	}
	return rows, nil
}

// must runs statements whose failure is the test's.
func (d *database) must(t *testing.T, statements ...string) []row {
	t.Helper()
	rows, err := d.sql(statements...)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// tables makes a database of one's own with a table of each kind.
func (d *database) tables(t *testing.T) {
	t.Helper()
	d.must(t, "DROP DATABASE IF EXISTS shop", "CREATE DATABASE shop", "CREATE TABLE shop.i (n BIGINT PRIMARY KEY) ENGINE=InnoDB",
		"CREATE TABLE shop.m (n BIGINT) ENGINE=MyISAM", "CREATE TABLE shop.a (n BIGINT) ENGINE=Aria")
	t.Cleanup(func() { d.must(t, "DROP DATABASE IF EXISTS shop") })
}

// free fails the test unless others can write within a second, and the recipe has
// no session any more.
func (d *database) free(t *testing.T) {
	t.Helper()
	begin := time.Now()
	d.must(t, "REPLACE INTO shop.i VALUES (-1)", "INSERT INTO shop.m VALUES (-1)", "CREATE TABLE shop.x (n INT)", "DROP TABLE shop.x")
	if took := time.Since(begin); took > time.Second {
		t.Errorf("others had to wait for %s", took)
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		rows := d.must(t, "SELECT ID AS id, INFO AS info FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND USER <> 'system user'")
		if len(rows) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("sessions are left: %v", rows)
		}
	}
}

// program is a copy of the test's own program where the server's user may run it.
func (d *database) program(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(d.top, "recipe")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(path) })
	return path
}

// occupy runs a statement in a session of its own until the test's end, and
// returns when it runs.
func (d *database) occupy(t *testing.T, statement string) (end func()) {
	t.Helper()
	c, err := configure(Options{Socket: d.socket})
	if err != nil {
		t.Fatal(err)
	}
	s, err := open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.exec(context.Background(), statement) }()
	for limit := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		rows := d.must(t, "SELECT STATE AS state FROM information_schema.PROCESSLIST WHERE ID = "+s.id+" AND COMMAND = 'Query' AND STATE = 'User sleep'")
		if len(rows) == 1 {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("%s does not run", statement)
		}
	}
	end = func() {
		if _, err := d.sql("KILL " + s.id); err != nil && !hasNumber(err, 1094) { // ER_NO_SUCH_THREAD
			t.Error(err)
		}
		<-ended
		_ = s.close()
		ended <- nil
	}
	t.Cleanup(end)
	return end
}
