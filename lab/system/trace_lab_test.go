//go:build lab

package system

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/lab/labtest"
)

// TestRecordTraces records how much of a thin pool is used, once a second, while a busy database is in it and a policy takes a set of it
// every 20 seconds and keeps three: of PostgreSQL (pgbench) and of SQLite, each once while its tables grow and once while rows are only
// changed. It prints the files that the simulation of daemon/forecast reads, which make traces keeps: a guest cannot write
// there. FERMATA_TRACE is how many seconds each takes.
func TestRecordTraces(t *testing.T) {
	seconds, err := strconv.Atoi(os.Getenv("FERMATA_TRACE"))
	if err != nil || seconds < 60 {
		t.Fatal("FERMATA_TRACE is no number of seconds: make traces records")
	}
	for _, load := range []string{"grows", "changes"} {
		t.Run(load, func(t *testing.T) { recordTraces(t, load, seconds) })
	}
}

// tracePool makes a volume group of its own on a disk, with a thin pool and a mounted volume in it.
func tracePool(t *testing.T, vg, disk string) (point string) {
	t.Helper()
	labtest.Run(t, "vgcreate", "-qq", "-y", vg, disk)
	t.Cleanup(func() {
		labtest.Run(t, "vgremove", "-qq", "-ff", "-y", vg)
		labtest.Run(t, "pvremove", "-qq", "-ff", "-y", disk)
	})
	labtest.Run(t, "lvcreate", "-qq", "-y", "-L", "1900m", "--thinpool", vg+"/pool", "--poolmetadatasize", "16m")
	v := labtest.Thin(t, vg, vg, "1800m", "ext4")
	return v.Point
}

func recordTraces(t *testing.T, load string, seconds int) {
	labtest.CheckClean(t)
	labtest.Run(t, "systemctl", "start", "fermata-guard.socket")
	disks := labtest.Disks(t)
	postgres, sqlite := tracePool(t, "postgresql", disks[0]), tracePool(t, "sqlite", disks[1])
	policy := func(point string) string {
		return "volumes: [" + point + "]\nconsistency: crash\nretention: {keep_last: 3}\n"
	}
	configure(t, map[string]string{
		"policies.d/postgresql.yaml": policy(postgres), "policies.d/sqlite.yaml": policy(sqlite),
		"providers.d/thin.yaml": "reserve: {data: 0, metadata: 0}\n",
	})
	t.Cleanup(func() {
		for _, m := range sets(t) {
			must(t, "snapshot", "delete", m.ID)
		}
	})
	loadPostgreSQL(t, postgres, load)
	loadSQLite(t, sqlite, load)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			next := time.After(20 * time.Second)
			for _, policy := range []string{"postgresql", "sqlite"} {
				fermata(t, "policy", "run", policy)
			}
			select {
			case <-next:
			case <-ctx.Done():
			}
		}
	})
	defer running.Wait()
	defer stop()
	traces := map[string][]uint64{}
	control, err := dm.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	spaces := dm.NewSpaces(control)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for range seconds {
		<-tick.C
		all, _, err := spaces.All()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			name, _, _, _ := dm.SplitLVMName(s.Device) // the group
			traces[name] = append(traces[name], s.Data.Used>>16)
		}
	}
	for name, used := range traces {
		printTrace(t, name, load, used)
	}
}

// printTrace prints a trace's file.
func printTrace(t *testing.T, name, load string, used []uint64) {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "== daemon/forecast/testdata/%s-%s.txt\n", name, load)
	fmt.Fprintf(&b, "# Blocks of 64 KiB that are used of a thin pool, once a second, while a busy %s in it %s, and a policy takes\n", name, load)
	fmt.Fprintf(&b, "# a set every 20 s and keeps three. Recorded in the lab, on Linux %s, by make traces.\n", unix.ByteSliceToString(u.Release[:]))
	for line := range slices.Chunk(used, 20) {
		fmt.Fprintln(&b, strings.Trim(fmt.Sprint(line), "[]"))
	}
	fmt.Print(b.String(), "==\n")
}

// background runs a load until the end of the test.
func background(t *testing.T, argv ...string) {
	t.Helper()
	c := exec.Command(argv[0], argv[1:]...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(-c.Process.Pid, syscall.SIGKILL); c.Wait() })
}

// loadPostgreSQL has two clients of pgbench change rows of its four tables, of 45 MiB, and insert eight rows of 2 KiB each time if
// the load grows.
func loadPostgreSQL(t *testing.T, point, load string) {
	t.Helper()
	data := filepath.Join(point, "pg")
	as := func(argv ...string) string {
		return labtest.Run(t, append([]string{"runuser", "-u", "postgres", "--"}, argv...)...)
	}
	labtest.Run(t, "install", "-d", "-o", "postgres", "-m", "0700", data, "/run/pg-live")
	as(postgresBin+"initdb", "-D", data, "--no-sync", "--auth=trust", "--wal-segsize=4")
	as(postgresBin+"pg_ctl", "-D", data, "-w", "-l", "/run/pg-live/log", "-o", "-c listen_addresses= -c unix_socket_directories=/run/pg-live -c shared_buffers=16MB -c max_wal_size=32MB -c checkpoint_timeout=30", "start")
	t.Cleanup(func() {
		as(postgresBin+"pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
		os.RemoveAll("/run/pg-live")
	})
	as(postgresBin+"pgbench", "-h", "/run/pg-live", "-i", "-q", "-s", "3", "postgres")
	args := []string{"runuser", "-u", "postgres", "--", postgresBin + "pgbench", "-h", "/run/pg-live", "-n", "-c", "2", "-R", "40", "-T", "100000"}
	if load == "grows" {
		as(postgresBin+"../bin/psql", "-h", "/run/pg-live", "-qc", "CREATE TABLE grown (v text); ALTER TABLE grown ALTER v SET STORAGE EXTERNAL", "postgres")
		script := "/run/pg-live/grow.sql"
		text := "INSERT INTO grown SELECT repeat(md5(random()::text), 64) FROM generate_series(1, 8);\n"
		if err := os.WriteFile(script, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-b", "tpcb-like@1", "-f", script+"@2")
	}
	background(t, append(args, "postgres")...)
}

// loadSQLite has somebody change random rows of a table of 50,000 of them, and insert forty of 2 KiB each time if the load grows.
func loadSQLite(t *testing.T, point, load string) {
	t.Helper()
	db := filepath.Join(point, "db")
	labtest.Run(t, "sqlite3", db, "PRAGMA journal_mode=WAL; CREATE TABLE t (n INTEGER PRIMARY KEY, v); WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 50000) INSERT INTO t SELECT n, randomblob(400) FROM c; CREATE TABLE grown (v);")
	transaction := "BEGIN; UPDATE t SET v = randomblob(400) WHERE n IN (SELECT 1 + abs(random()) % 50000 FROM t LIMIT 5);"
	if load == "grows" {
		transaction += " INSERT INTO grown SELECT randomblob(2000) FROM t LIMIT 40;"
	}
	background(t, "sh", "-c", `while :; do echo "$1 COMMIT;"; sleep 0.2; done | sqlite3 "$2"`, "sh", transaction, db)
}
