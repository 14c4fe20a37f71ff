//go:build lab

package system

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	_ "github.com/go-sql-driver/mysql"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

// mariadb is a running server.
type mariadb struct {
	db      *sql.DB
	process *exec.Cmd
	log     string
}

// startMariaDB runs a server with these arguments until it is stopped. run is the program that it is run by.
func startMariaDB(t testing.TB, dir string, run []string, args ...string) *mariadb {
	t.Helper()
	labtest.Run(t, "install", "-d", "-o", "mysql", dir)
	m := &mariadb{log: filepath.Join(dir, "log")}
	log, err := os.Create(m.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	argv := append(append(run, "mariadbd", "--no-defaults", "--user=mysql", "--socket="+dir+"/socket", "--pid-file="+dir+"/pid", "--skip-networking",
		"--loose-innodb-buffer-pool-size-max=64M", "--innodb-buffer-pool-size=16M", "--innodb-log-file-size=4M", "--server-id=1"), args...)
	m.process = exec.Command(argv[0], argv[1:]...)
	m.process.Stdout, m.process.Stderr = log, log
	if err := m.process.Start(); err != nil {
		t.Fatal(err)
	}
	if m.db, err = sql.Open("mysql", "root@unix("+dir+"/socket)/"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "MariaDB answers", func() bool {
		if m.db.Ping() == nil {
			return true
		}
		if err := m.process.Process.Signal(syscall.Signal(0)); err != nil {
			t.Fatal(err)
		}
		return false
	})
	return m
}

func (m *mariadb) stop(t testing.TB) {
	t.Helper()
	_ = m.db.Close()
	_ = m.process.Process.Signal(syscall.SIGTERM)
	if err := m.process.Wait(); err != nil {
		said, _ := os.ReadFile(m.log)
		t.Errorf("mariadbd: %v\n%s", err, said)
	}
}

func (m *mariadb) exec(t testing.TB, statement string) {
	t.Helper()
	if _, err := m.db.Exec(statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// inserting adds rows 0, 1, … to a table until the test ends.
func (m *mariadb) inserting(t testing.TB, table string) *counter {
	n := 0
	return count(t, "MariaDB, table "+table, func() error {
		_, err := m.db.Exec(fmt.Sprintf("INSERT INTO shop.%s VALUES (%d)", table, n))
		n++
		return err
	})
}

// A busy MariaDB with its binary log on another volume: each set, started as a server of its own, is without fault, has all rows
// that were acknowledged before its instant and none that was begun after the thaw, and stands at the position in the
// manifest.
func TestMariaDBSets(t *testing.T) {
	vols := thinVolumes(t, 2)
	data, logs := vols[0].Point, vols[1].Point
	labtest.Run(t, "mariadb-install-db", "--no-defaults", "--user=mysql", "--datadir="+data+"/db", "--skip-test-db",
		"--auth-root-authentication-method=socket", "--innodb-log-file-size=4M", "--loose-innodb-buffer-pool-size-max=64M", "--innodb-buffer-pool-size=16M")
	labtest.Run(t, "chown", "mysql", logs)
	live := startMariaDB(t, "/run/mariadb-live", nil, "--datadir="+data+"/db", "--log-bin="+logs+"/binlog")
	t.Cleanup(func() { live.stop(t); os.RemoveAll("/run/mariadb-live") })
	live.exec(t, "CREATE DATABASE shop")
	live.exec(t, "CREATE TABLE shop.i (n BIGINT PRIMARY KEY) ENGINE=InnoDB")
	live.exec(t, "CREATE TABLE shop.m (n BIGINT) ENGINE=MyISAM")
	configure(t, map[string]string{
		"writers.d/mariadb.yaml": "session: [fermata-writer, mariadb, --socket, /run/mariadb-live/socket]\nuser: mysql\n",
		"policies.d/shop.yaml":   fmt.Sprintf("volumes: [%s, %s]\nwriters: [mariadb]\n", data, logs),
		"writers.d/sealed.yaml":  "session: [fermata-writer, mariadb, --socket, /run/mariadb-live/socket]\nuser: mysql\nrecover: true\nverify: true\n",
		"policies.d/sealed.yaml": fmt.Sprintf("volumes: [%s, %s]\nwriters: [sealed]\n", data, logs),
	})
	idleHolds(t, "shop")
	counts := map[string]*counter{"i": live.inserting(t, "i"), "m": live.inserting(t, "m")}
	loaded := holds{}
	for range writerSets(t) {
		eventually(t, "the load goes on", func() bool { return counts["i"].confirmed.Load() > 10 && counts["m"].confirmed.Load() > 10 })
		set := create(t, "--policy", "shop")
		loaded.add(set)
		if set.Consistency != "application" {
			t.Errorf("consistency %s", set.Consistency)
		}
		must(t, "snapshot", "mount", set.ID, "--writable")
		bind := fmt.Sprintf("mount --bind %s %s && mount --bind %s %s && exec \"$@\"", mounted(t, set.ID, data), data, mounted(t, set.ID, logs), logs)
		copied := startMariaDB(t, "/run/mariadb-copy", []string{"unshare", "--mount", "sh", "-c", bind, "sh"},
			"--datadir="+data+"/db", "--log-bin="+logs+"/binlog")
		var gtid string
		if err := copied.db.QueryRow("SELECT @@gtid_binlog_pos").Scan(&gtid); err != nil {
			t.Error(err)
		}
		frozen, _ := set.Writers[0].Data["freeze"].(map[string]any)
		if at, _ := frozen["binlog"].(map[string]any); at["gtid"] != gtid || at["exact"] != true {
			t.Errorf("the set's binary log ends at %s, the manifest says %v", gtid, frozen)
		}
		for table, c := range counts {
			from, to := c.bounds(set)
			var rows int64
			var name, operation, kind, said string
			if err := copied.db.QueryRow("SELECT COUNT(*) FROM shop." + table).Scan(&rows); err != nil || rows < from || rows > to {
				t.Errorf("table %s: %d rows: %d were acknowledged before the instant, %d begun before the thaw: %v", table, rows, from, to, err)
			}
			if err := copied.db.QueryRow("CHECK TABLE shop."+table).Scan(&name, &operation, &kind, &said); err != nil || said != "OK" {
				t.Errorf("CHECK TABLE %s: %s %s: %v", table, kind, said, err)
			}
		}
		copied.stop(t)
		os.RemoveAll("/run/mariadb-copy")
		must(t, "snapshot", "umount", set.ID)
		must(t, "snapshot", "delete", set.ID)
	}
	loaded.report(t, "loaded") // One that has recovered on the snapshots, and is verified on copies of them.
	set := create(t, "--policy", "sealed")
	if said, _ := set.Writers[0].Data["recover"].(map[string]any); said["recovered"] != true {
		t.Errorf("the writer said %v", set.Writers[0].Data)
	}
	var v api.Verification
	decode(t, must(t, "snapshot", "verify", set.ID, "--json"), &v)
	if said := fmt.Sprint(v); !v.OK || !strings.Contains(said, "CHECK TABLE") {
		t.Errorf("verified: %s", said)
	}
}
