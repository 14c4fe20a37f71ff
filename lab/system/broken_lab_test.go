//go:build lab

package system

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/lab/labtest"
)

// Whatever takes a real application's session away in the hold, the hold is refused: exit status 4, and the writer is named.
// The verdict on a set is by the same code (daemon/verify.go); here the command that is run in the hold takes it away.
func TestBrokenHolds(t *testing.T) {
	point := thinVolumes(t, 1)[0].Point
	configure(t, map[string]string{
		"writers.d/pg.yaml":      "session: [fermata-writer, postgresql]\nuser: postgres\n",
		"writers.d/pg-mode.yaml": "session: [fermata-writer, postgresql, --backup-mode]\nuser: postgres\n",
		"writers.d/maria.yaml":   "session: [fermata-writer, mariadb, --socket, /run/mariadb-live/socket]\nuser: mysql\n",
		"writers.d/aof.yaml":     "session: [fermata-writer, redis, --address, " + point + "/redis/s, --pid-file, /run/none]\n", // what is killed here is reaped late
		"writers.d/lite.yaml":    "session: [fermata-writer, sqlite, " + point + "/app.db]\n",
		"writers.d/ticker.yaml":  "type: systemd-unit\nunit: ticker.service\n",
		"writers.d/log.yaml":     "session: [fermata-writer, journald]\nlevel: system\n",
	})
	startPostgres(t, point)
	psql := func(sql string) string {
		return `cd / && runuser -u postgres -- psql -h /run/postgresql -qc "` + sql + `"`
	}
	labtest.Run(t, "mariadb-install-db", "--no-defaults", "--user=mysql", "--datadir="+point+"/db", "--skip-test-db",
		"--auth-root-authentication-method=socket", "--innodb-log-file-size=4M", "--loose-innodb-buffer-pool-size-max=64M", "--innodb-buffer-pool-size=16M")
	maria := startMariaDB(t, "/run/mariadb-live", nil, "--datadir="+point+"/db")
	t.Cleanup(func() { // it is dead, or is to be
		_, _, _ = maria.db.Close(), maria.process.Process.Kill(), maria.process.Wait()
		os.RemoveAll("/run/mariadb-live")
	})
	if err := os.Mkdir(point+"/redis", 0o755); err != nil {
		t.Fatal(err)
	}
	redisServer(t, point+"/redis")
	t.Cleanup(func() { labtest.Try(t, "pkill", "-KILL", "-x", "redis-server") })
	labtest.Run(t, "sqlite3", point+"/app.db", "CREATE TABLE t (n INTEGER)")
	service(t, "ticker", "root", "sleep", "1000")
	journalOn(t, point)

	mariadb := "mariadb --no-defaults --socket=/run/mariadb-live/socket "
	redis := "redis-cli -s " + point + "/redis/s "
	kill := func(pattern string) string { return "pkill -KILL -f '^" + pattern + "'" }
	for _, test := range []struct{ name, writer, spoil string }{
		{"nothing", "pg", "true"},
		{"pg_terminate_backend", "pg", psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fermata'")},
		{"pg_terminate_backend in backup mode", "pg-mode", psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fermata'")},
		{"SIGKILL of PostgreSQL", "pg", "kill -KILL $(head -n 1 " + point + "/pg/postmaster.pid)"},
		{"nothing", "maria", "true"},
		{"KILL", "maria", mariadb + `-e "KILL $(` + mariadb + `-Ne "SELECT MIN(ID) FROM information_schema.PROCESSLIST WHERE USER = 'mysql'")"`},
		{"SIGKILL of MariaDB", "maria", fmt.Sprintf("kill -KILL %d", maria.process.Process.Pid)},
		{"nothing", "aof", "true"},
		{"CLIENT KILL", "aof", redis + "CLIENT KILL TYPE normal SKIPME yes"},
		{"CLIENT UNPAUSE", "aof", redis + "CLIENT UNPAUSE"},
		{"SIGKILL of Redis", "aof", kill("redis-server ")},
		{"nothing", "aof", "true"},
		{"Redis, which was down, is started", "aof", "redis-server --daemonize yes --port 0 --dir " + point + "/redis --appendonly yes --unixsocket " + point + "/redis/s >/dev/null"},
		{"nothing", "lite", "true"},
		{"SIGKILL of the session", "lite", kill("fermata-writer sqlite ")},
		{"another file in the place of the database", "lite", "cp " + point + "/app.db " + point + "/new && mv " + point + "/new " + point + "/app.db"},
		{"nothing", "ticker", "true"},
		{"somebody thaws the unit", "ticker", "systemctl thaw ticker && systemctl freeze ticker"},
		{"SIGKILL of the unit", "ticker", "systemctl kill -s KILL ticker"},
		{"nothing", "log", "true"},
		{"restart of journald", "log", "systemctl restart systemd-journald"},
	} {
		t.Run(test.writer+", "+test.name, func(t *testing.T) {
			a := fermata(t, "quiesce", "--writers-only", "--writer", test.writer, point, "--", "sh", "-c", test.spoil)
			want := 4
			if test.name == "nothing" {
				want = 0
			}
			if a.status != want || want != 0 && !strings.Contains(a.stderr, test.writer) {
				t.Errorf("exit status %d, want %d: %s%s", a.status, want, a.stdout, a.stderr)
			}
			t.Log(a.stderr)
		})
	}
	labtest.Run(t, "systemctl", "is-active", "fermatad")
	// The cluster recovers, so that the end of the test can stop it.
	labtest.Run(t, "env", "-C", "/", "runuser", "-u", "postgres", "--", postgresPrograms+"pg_ctl", "-D", point+"/pg", "-w", "-l", point+"/pg/log",
		"-o", "-c listen_addresses= -c shared_buffers=16MB", "start")
}

// journalOn has journald keep its files on a volume, until the end of the test.
func journalOn(t *testing.T, point string) {
	t.Helper()
	const dropIn, folder = "/run/systemd/journald.conf.d/zz-test.conf", "/var/log/journal"
	if err := errors.Join(os.MkdirAll("/run/systemd/journald.conf.d", 0o755), os.WriteFile(dropIn, []byte("[Journal]\nStorage=persistent\n"), 0o644),
		os.MkdirAll(folder, 0o755), os.MkdirAll(point+"/journal", 0o755)); err != nil {
		t.Fatal(err)
	}
	labtest.Run(t, "mount", "--bind", point+"/journal", folder)
	t.Cleanup(func() {
		os.Remove(dropIn)
		labtest.Run(t, "systemctl", "restart", "systemd-journald")
		labtest.Run(t, "umount", folder)
		os.RemoveAll(folder)
	})
	labtest.Run(t, "systemctl", "restart", "systemd-journald")
	labtest.Run(t, "journalctl", "--flush")
}
