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

// A busy PostgreSQL with its write-ahead log and a tablespace on another volume: each set, started as a server of its own, is
// without fault, has all rows that were acknowledged before its instant, and none that was begun after the thaw.
func TestPostgreSQLSets(t *testing.T) {
	vols := thinVolumes(t, 2)
	data, logs := filepath.Join(vols[0].Point, "pg"), vols[1].Point
	as := func(argv ...string) string {
		return labtest.Run(t, append([]string{"runuser", "-u", "postgres", "--"}, argv...)...)
	}
	labtest.Run(t, "install", "-d", "-o", "postgres", "-m", "0700", data, logs+"/space", "/run/pg-live", "/run/pg-copy")
	labtest.Run(t, "chown", "postgres", logs)
	as(postgresBin+"initdb", "-D", data, "-X", logs+"/wal", "--no-sync", "--auth=trust", "--wal-segsize=4")
	as(postgresBin+"pg_ctl", "-D", data, "-w", "-l", "/run/pg-live/log", "-o", "-c listen_addresses= -c unix_socket_directories=/run/pg-live -c shared_buffers=16MB -c max_wal_size=32MB", "start")
	t.Cleanup(func() {
		as(postgresBin+"pg_ctl", "-D", data, "-w", "-m", "fast", "stop")
		os.RemoveAll("/run/pg-live")
		os.RemoveAll("/run/pg-copy")
	})
	query := func(server, statement string, into ...any) error {
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
	for _, statement := range []string{"CREATE TABLESPACE apart LOCATION '" + logs + "/space'", "CREATE TABLE t (n bigint PRIMARY KEY) TABLESPACE apart"} {
		if err := query("/run/pg-live", statement); err != nil {
			t.Fatal(err)
		}
	}
	as(postgresBin+"pgbench", "-h", "/run/pg-live", "-i", "-q", "postgres")
	configure(t, map[string]string{
		"writers.d/postgresql.yaml": "session: [fermata-writer, postgresql, --dsn, host=/run/pg-live user=postgres dbname=postgres]\nuser: postgres\n",
		"policies.d/db.yaml":        fmt.Sprintf("volumes: [%s, %s]\nwriters: [postgresql]\n", vols[0].Point, logs),
	})
	idleHolds(t, "db")
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
	rows := count(t, "PostgreSQL", func() error {
		next++
		_, err := client.Exec(context.Background(), "INSERT INTO t VALUES ($1)", next)
		return err
	})
	loaded := holds{}
	for range writerSets(t) {
		eventually(t, "the load goes on", func() bool { return rows.confirmed.Load() > 10 })
		m := create(t, "--policy", "db")
		loaded.add(m)
		from, to := rows.bounds(m)
		if m.Consistency != api.Application {
			t.Errorf("the set claims %s: %v", m.Consistency, m.Reasons)
		}
		must(t, "snapshot", "mount", m.ID, "--writable")
		bind := fmt.Sprintf("mount --bind %s %s && mount --bind %s %s && rm -f %s/postmaster.pid && exec \"$@\"",
			mounted(t, m.ID, vols[0].Point), vols[0].Point, mounted(t, m.ID, logs), logs, data)
		copied := exec.Command("unshare", "--mount", "sh", "-c", bind, "sh", "runuser", "-u", "postgres", "--", postgresBin+"postgres",
			"-D", data, "-c", "listen_addresses=", "-c", "unix_socket_directories=/run/pg-copy", "-c", "shared_buffers=16MB")
		log, err := os.Create("/run/pg-live/copy.log")
		if err != nil {
			t.Fatal(err)
		}
		copied.Stdout, copied.Stderr = log, log
		if err := copied.Start(); err != nil {
			t.Fatal(err)
		}
		var n, most int64
		eventually(t, "the copy answers", func() bool { return query("/run/pg-copy", "SELECT count(*), max(n) FROM t", &n, &most) == nil })
		if n < from || n > to || n != most {
			t.Errorf("%d rows to %d: %d were acknowledged before the instant, %d begun before the thaw", n, most, from, to)
		}
		as(postgresBin+"pg_amcheck", "-h", "/run/pg-copy", "--install-missing", "--heapallindexed", "postgres")
		labtest.Run(t, "sh", "-c", "kill -INT $(head -n 1 "+mounted(t, m.ID, vols[0].Point)+"/pg/postmaster.pid)")
		copied.Wait()
		log.Close()
		must(t, "snapshot", "umount", m.ID)
		must(t, "snapshot", "delete", m.ID)
	}
	loaded.report(t, "loaded")
}
