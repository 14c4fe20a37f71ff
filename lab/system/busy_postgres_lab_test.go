//go:build lab

package system

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

const postgresBin = "/usr/lib/postgresql/15/bin/"

// busyPostgres is a PostgreSQL with its write-ahead log and a tablespace on another volume, a writer and policy db.
type busyPostgres struct {
	points     [2]string // of the two volumes
	data, logs string
	rows       *counter
}

// newPostgres starts one, that nobody uses yet.
func newPostgres(t testing.TB) *busyPostgres {
	t.Helper()
	vols := thinVolumes(t, 2)
	p := &busyPostgres{points: [2]string{vols[0].Point, vols[1].Point}, data: filepath.Join(vols[0].Point, "pg"), logs: vols[1].Point}
	labtest.Run(t, "install", "-d", "-o", "postgres", "-m", "0700", p.data, p.logs+"/space", "/run/pg-live", "/run/pg-copy")
	labtest.Run(t, "chown", "postgres", p.logs)
	p.as(t, postgresBin+"initdb", "-D", p.data, "-X", p.logs+"/wal", "--no-sync", "--auth=trust", "--wal-segsize=4")
	p.as(t, postgresBin+"pg_ctl", "-D", p.data, "-w", "-l", "/run/pg-live/log", "-o",
		"-c listen_addresses= -c unix_socket_directories=/run/pg-live -c shared_buffers=16MB -c max_wal_size=32MB", "start")
	t.Cleanup(func() {
		p.as(t, postgresBin+"pg_ctl", "-D", p.data, "-w", "-m", "fast", "stop")
		os.RemoveAll("/run/pg-live")
		os.RemoveAll("/run/pg-copy")
	})
	for _, statement := range []string{"CREATE TABLESPACE apart LOCATION '" + p.logs + "/space'", "CREATE TABLE t (n bigint PRIMARY KEY) TABLESPACE apart"} {
		if err := query(t, "/run/pg-live", statement); err != nil {
			t.Fatal(err)
		}
	}
	p.as(t, postgresBin+"pgbench", "-h", "/run/pg-live", "-i", "-q", "postgres")
	configure(t, map[string]string{
		"writers.d/postgresql.yaml": "session: [fermata-writer, postgresql, --dsn, host=/run/pg-live user=postgres dbname=postgres]\nuser: postgres\n",
		"policies.d/db.yaml":        fmt.Sprintf("volumes: [%s, %s]\nwriters: [postgresql]\n", p.points[0], p.points[1]),
	})
	return p
}

func (p *busyPostgres) as(t testing.TB, argv ...string) string {
	t.Helper()
	return labtest.Run(t, append([]string{"runuser", "-u", "postgres", "--"}, argv...)...)
}

// query asks the server whose socket is in a directory.
func query(t testing.TB, server, statement string, into ...any) error {
	t.Helper()
	c, err := pgx.Connect(t.Context(), "host="+server+" user=postgres dbname=postgres")
	if err != nil {
		return err
	}
	defer c.Close(context.Background())
	if len(into) == 0 {
		_, err = c.Exec(t.Context(), statement)
		return err
	}
	return c.QueryRow(t.Context(), statement).Scan(into...)
}

// work has clients use it until the test ends.
func (p *busyPostgres) work(t testing.TB) {
	t.Helper()
	bench := exec.Command("runuser", "-u", "postgres", "--", postgresBin+"pgbench", "-h", "/run/pg-live", "-n", "-c", "2", "-R", "20", "-T", "100000", "postgres")
	bench.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := bench.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(-bench.Process.Pid, syscall.SIGKILL); bench.Wait() })
	client, err := pgx.Connect(t.Context(), "host=/run/pg-live user=postgres dbname=postgres")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(context.Background()) })
	next := int64(0)
	p.rows = count(t, "PostgreSQL", func() error {
		next++
		_, err := client.Exec(context.Background(), "INSERT INTO t VALUES ($1)", next)
		return err
	})
}

// starts checks that a server starts on copies of the two volumes, is without fault, has all rows that were acknowledged before the
// set's instant, and none that was begun after the thaw.
func (p *busyPostgres) starts(t testing.TB, m api.Manifest, data, logs string) {
	t.Helper()
	from, to := p.rows.bounds(m)
	bind := fmt.Sprintf("mount --bind %s %s && mount --bind %s %s && rm -f %s/postmaster.pid && exec \"$@\"", data, p.points[0], logs, p.points[1], p.data)
	copied := exec.Command("unshare", "--mount", "sh", "-c", bind, "sh", "runuser", "-u", "postgres", "--", postgresBin+"postgres",
		"-D", p.data, "-c", "listen_addresses=", "-c", "unix_socket_directories=/run/pg-copy", "-c", "shared_buffers=16MB")
	log, err := os.Create("/run/pg-live/copy.log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	copied.Stdout, copied.Stderr = log, log
	if err := copied.Start(); err != nil {
		t.Fatal(err)
	}
	var n, most int64
	eventually(t, "the copy answers", func() bool { return query(t, "/run/pg-copy", "SELECT count(*), max(n) FROM t", &n, &most) == nil })
	if n < from || n > to || n != most {
		t.Errorf("%d rows to %d: %d were acknowledged before the instant, %d begun before the thaw", n, most, from, to)
	}
	p.as(t, postgresBin+"pg_amcheck", "-h", "/run/pg-copy", "--install-missing", "--heapallindexed", "postgres")
	labtest.Run(t, "sh", "-c", "kill -INT $(head -n 1 "+data+"/pg/postmaster.pid)")
	copied.Wait()
}
