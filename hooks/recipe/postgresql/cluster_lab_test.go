//go:build lab

package postgresql

import (
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

	"github.com/jackc/pgx/v5/pgconn"
)

// bin has the programs of Debian's postgresql-15.
const bin = "/usr/lib/postgresql/15/bin"

// cluster is a server of the test's own, run by user postgres.
type cluster struct {
	t    *testing.T
	top  string // also the socket's folder
	data string
	port int
}

var nextPort = 55000

// newCluster makes and starts a primary.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := stoppedCluster(t)
	c.start()
	return c
}

// stoppedCluster makes a primary. All are copies of the first: initdb takes
// seconds. That they share a system identifier disturbs nobody.
func stoppedCluster(t *testing.T) *cluster {
	t.Helper()
	c := emptyCluster(t)
	if template == "" {
		c.as("initdb", "-D", c.data, "-A", "trust", "-U", "postgres", "--no-sync", "--wal-segsize=1") // little to copy
		c.configure("wal_level = replica", "max_wal_senders = 4", "shared_buffers = 16MB", "max_connections = 20")
		template = filepath.Join(templates, "data")
		c.as("/bin/cp", "-a", c.data, template)
	} else {
		c.as("/bin/cp", "-a", template, c.data)
	}
	return c
}

// template is a cluster that was never started, in the folder templates.
var template, templates string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if templates, err = os.MkdirTemp("", "pgtemplate"); err == nil {
			err = os.Chmod(templates, 0o777)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(templates)
		return m.Run()
	}())
}

func emptyCluster(t *testing.T) *cluster {
	t.Helper()
	top := folder(t, "")
	nextPort++
	c := &cluster{t: t, top: top, data: filepath.Join(top, "data"), port: nextPort}
	t.Cleanup(func() { _ = c.command("pg_ctl", "-D", c.data, "-m", "immediate", "stop").Run() })
	return c
}

// folder makes a folder that belongs to postgres, below parent.
func folder(t *testing.T, parent string) string {
	t.Helper()
	dir, err := os.MkdirTemp(parent, "pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cred := postgresUser(t)
	if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func postgresUser(t *testing.T) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (c *cluster) command(program string, args ...string) *exec.Cmd {
	if !filepath.IsAbs(program) {
		program = filepath.Join(bin, program)
	}
	cmd := exec.Command(program, args...)
	cmd.Dir = c.top
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: postgresUser(c.t)}
	return cmd
}

// as runs one of the programs as postgres. A server that it starts must not
// inherit a pipe of ours, so its output goes to a file.
func (c *cluster) as(program string, args ...string) {
	c.t.Helper()
	log, err := os.Create(filepath.Join(c.top, "output"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	cmd := c.command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(log.Name())
		c.t.Fatalf("%s: %v: %s", program, err, said)
	}
}

func (c *cluster) configure(lines ...string) {
	c.t.Helper()
	f, err := os.OpenFile(filepath.Join(c.data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "%s\n", strings.Join(lines, "\n")); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) ctl(args ...string) {
	c.t.Helper()
	options := fmt.Sprintf("-k %s -p %d -c listen_addresses=''", c.top, c.port)
	c.as("pg_ctl", append([]string{"-D", c.data, "-w", "-t", "120", "-o", options, "-l", filepath.Join(c.top, "log")}, args...)...)
}

func (c *cluster) start() { c.t.Helper(); c.ctl("start") }

// revive starts the server if it does not run, and waits until it lets one in.
func (c *cluster) revive() {
	c.t.Helper()
	if c.command("pg_ctl", "-D", c.data, "status").Run() != nil {
		c.start()
	}
	for end := time.Now().Add(time.Minute); c.command("pg_isready", "-q", "-h", c.top, "-p", strconv.Itoa(c.port)).Run() != nil; {
		if time.Now().After(end) {
			c.t.Fatal("the server does not come back")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (c *cluster) dsn(role string) string {
	return fmt.Sprintf("host=%s port=%d user=%s", c.top, c.port, role)
}

// sql runs a statement as the superuser and returns its first value.
func (c *cluster) sql(statement string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgconn.Connect(ctx, c.dsn("postgres")+" dbname=postgres options='-c idle_session_timeout=0'") // that is for the recipe's
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close(ctx)
	rows, err := query(ctx, conn, statement)
	if err != nil {
		c.t.Fatalf("%s: %v", statement, err)
	}
	if len(rows) == 0 {
		return ""
	}
	return rows[0][0]
}
