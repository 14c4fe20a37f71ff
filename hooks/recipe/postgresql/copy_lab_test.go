//go:build lab

package postgresql

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fermata-project/fermata/hooks"
)

// A primary and a standby, whose logs and tablespaces are on a filesystem of
// their own, with somebody committing to both tables at once: what is copied in a
// hold, of one instant, is a server that has all that was acknowledged before.
func TestCopyOfHold(t *testing.T) {
	primary := stoppedCluster(t)
	wal, space := folder(t, "/dev/shm"), folder(t, "/dev/shm")
	link := filepath.Join(primary.data, "pg_wal")
	primary.as("/bin/mv", link, filepath.Join(wal, "pg_wal"))
	if err := os.Symlink(filepath.Join(wal, "pg_wal"), link); err != nil {
		t.Fatal(err)
	}
	primary.start()
	primary.sql(fmt.Sprintf("CREATE TABLESPACE space LOCATION '%s'", space))
	primary.sql("CREATE TABLE here (n bigint PRIMARY KEY)")
	primary.sql("CREATE TABLE elsewhere (n bigint PRIMARY KEY) TABLESPACE space")
	standby := emptyCluster(t)
	standbyWAL, standbySpace := folder(t, "/dev/shm"), folder(t, "/dev/shm")
	standby.as("pg_basebackup", "-h", primary.top, "-p", strconv.Itoa(primary.port), "-U", "postgres", "-D", standby.data, "-R", "-c", "fast",
		"--no-sync", "--waldir", filepath.Join(standbyWAL, "pg_wal"), "-T", space+"="+standbySpace)
	standby.start()
	committed, stop := load(t, primary)
	for end := time.Now().Add(30 * time.Second); standby.sql("SELECT count(*) > 20 FROM elsewhere") != "t"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the standby does not follow")
		}
	}
	primary.sql("CHECKPOINT") // so that the standby has one to begin from
	before := standby.sql("SELECT redo_lsn FROM pg_control_checkpoint()")
	for _, c := range []*cluster{primary, standby} {
		r := c.recipe(Options{})
		if _, err := r.Prepare(context.Background(), c.set(hooks.PhasePrepare)); err == nil || !strings.Contains(err.Error(), "the write-ahead log /dev/shm/") ||
			!strings.Contains(err.Error(), "/pg_wal is on none") {
			t.Errorf("without the volume of log and tablespace: %v", err)
		}
		_ = r.Close()
		both := c.set(hooks.PhasePrepare)
		both.Volumes = append(both.Volumes, "/dev/shm")
		r = c.recipe(Options{})
		prepared, err := r.Prepare(context.Background(), both)
		if err != nil {
			t.Fatal(err)
		}
		frozen, err := r.Freeze(context.Background(), c.set(hooks.PhaseFreeze))
		if err != nil {
			t.Fatal(err)
		}
		var acknowledged int64
		resume := c.standStill()
		acknowledged = committed.Load()
		copied := c.copied()
		resume()
		if _, err := r.Thaw(context.Background(), c.set(hooks.PhaseThaw)); err != nil {
			t.Error(err)
		}
		_ = r.Close()
		copied.start()
		here, elsewhere := copied.sql("SELECT count(*) FROM here"), copied.sql("SELECT count(*) FROM elsewhere")
		rows, err := strconv.ParseInt(here, 10, 64)
		if err != nil || here != elsewhere {
			t.Errorf("in recovery %v: %s rows, and %s in the tablespace: %v", prepared["in_recovery"], here, elsewhere, err)
		}
		if c == primary && rows < acknowledged || rows > acknowledged+1 || rows == 0 {
			t.Errorf("in recovery %v: %d rows, %d were acknowledged", prepared["in_recovery"], rows, acknowledged)
		}
		if copied.sql(fmt.Sprintf("SELECT pg_current_wal_insert_lsn() >= '%s'::pg_lsn", frozen["lsn"])) != "t" {
			t.Errorf("in recovery %v: the copy ends before %v", prepared["in_recovery"], frozen["lsn"])
		}
		copied.ctl("-m", "immediate", "stop")
	}
	if after := standby.sql("SELECT redo_lsn FROM pg_control_checkpoint()"); after == before {
		t.Errorf("prepare made no restart point on the standby: %s", after)
	}
	stop()
}

// load commits a row to both tables at a time, and counts what was acknowledged.
func load(t *testing.T, c *cluster) (committed *atomic.Int64, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	conn, err := pgconn.Connect(ctx, c.dsn("postgres")+" dbname=postgres")
	if err != nil {
		t.Fatal(err)
	}
	committed = &atomic.Int64{}
	ended := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			n := committed.Load()
			_, err := query(context.Background(), conn, fmt.Sprintf("INSERT INTO here VALUES (%d); INSERT INTO elsewhere VALUES (%d)", n, n))
			if err != nil {
				ended <- err
				return
			}
			committed.Add(1)
			time.Sleep(5 * time.Millisecond)
		}
		ended <- nil
	}()
	return committed, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the load: %v", err)
		}
		_ = conn.Close(context.Background())
	}
}

// standStill stops all of a cluster's processes: what its files are then is of one
// instant.
func (c *cluster) standStill() (resume func()) {
	c.t.Helper()
	file, err := os.ReadFile(filepath.Join(c.data, "postmaster.pid"))
	if err != nil {
		c.t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(file), "\n")
	signal := func(pid string, s syscall.Signal) {
		n, err := strconv.Atoi(pid)
		if err == nil {
			err = syscall.Kill(n, s)
		}
		if err != nil && err != syscall.ESRCH {
			c.t.Error(err)
		}
	}
	signal(first, syscall.SIGSTOP) // now there will be no new ones
	children := func() string {
		out, err := exec.Command("ps", "-o", "pid=,stat=", "--ppid", first).Output()
		if err != nil {
			c.t.Fatal(err)
		}
		return string(out)
	}
	var stopped []string
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		all := true
		stopped = nil
		for line := range strings.Lines(children()) {
			fields := strings.Fields(line)
			stopped = append(stopped, fields[0])
			if fields[1][0] != 'T' && fields[1][0] != 'Z' {
				all = false
				signal(fields[0], syscall.SIGSTOP)
			}
		}
		if all {
			break
		}
		if time.Now().After(end) {
			c.t.Fatal("the server does not stop")
		}
	}
	return func() {
		for _, pid := range append(stopped, first) {
			signal(pid, syscall.SIGCONT)
		}
	}
}

// copied is a cluster of its own from this one's files: links lead to copies, and
// a standby is none any more.
func (c *cluster) copied() *cluster {
	c.t.Helper()
	other := emptyCluster(c.t)
	c.as("/bin/cp", "-a", c.data, other.data)
	links, err := filepath.Glob(filepath.Join(other.data, "pg_tblspc", "*"))
	if err != nil {
		c.t.Fatal(err)
	}
	for i, link := range append(links, filepath.Join(other.data, "pg_wal")) {
		target, err := os.Readlink(link)
		if err != nil {
			c.t.Fatal(err)
		}
		to := filepath.Join(other.top, fmt.Sprintf("linked%d", i))
		c.as("/bin/cp", "-a", target, to)
		if err := os.Remove(link); err != nil {
			c.t.Fatal(err)
		}
		if err := os.Symlink(to, link); err != nil {
			c.t.Fatal(err)
		}
	}
	for _, name := range []string{"postmaster.pid", "standby.signal"} {
		if err := os.Remove(filepath.Join(other.data, name)); err != nil && !os.IsNotExist(err) {
			c.t.Fatal(err)
		}
	}
	return other
}
