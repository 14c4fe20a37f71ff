//go:build lab

package system

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

// counter is somebody who counts up in a database, and knows how far it has confirmed.
type counter struct {
	confirmed atomic.Int64
	longest   atomic.Int64 // nanoseconds that one step took
	err       atomic.Value

	mu           sync.Mutex
	begun, ended []time.Time // of each step
}

// bounds are how far a set may have come: at least what was confirmed before its instant, and at most what was begun before
// its filesystems were thawed.
func (c *counter) bounds(m api.Manifest) (from, to int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	thawed := m.Created.Add(m.Window)
	before := func(times []time.Time, end time.Time) int64 {
		n, _ := slices.BinarySearchFunc(times, end, time.Time.Compare)
		return int64(n)
	}
	return before(c.ended, m.Created), before(c.begun, thawed)
}

// count runs step, which counts up by one, until the end of the test.
func count(t testing.TB, what string, step func() error) *counter {
	t.Helper()
	c := &counter{}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
			}
			begin := time.Now()
			c.note(&c.begun, begin)
			if err := step(); err != nil {
				c.err.Store(err)
				return
			}
			c.note(&c.ended, time.Now())
			c.longest.Store(max(c.longest.Load(), int64(time.Since(begin))))
			c.confirmed.Add(1)
			time.Sleep(5 * time.Millisecond) // the guest has one processor, which the sets need as well
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-ended
		if err := c.err.Load(); err != nil {
			t.Errorf("%s: its client saw %v", what, err)
		}
		t.Logf("%s: %d steps, the longest took %s", what, c.confirmed.Load(), time.Duration(c.longest.Load()))
	})
	return c
}

func (c *counter) note(times *[]time.Time, t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*times = append(*times, t)
}

// redisServer runs a server until the end of the test, and returns a function that sends it one command.
func redisServer(t testing.TB, dir string) func(command string) (string, error) {
	t.Helper()
	socket := filepath.Join(dir, "s")
	server := exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "", "--appendonly", "yes")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	var conn net.Conn
	ask := func(command string) (string, error) {
		if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
			return "", err
		}
		said := make([]byte, 64)
		n, err := conn.Read(said)
		return strings.TrimSpace(string(said[:n])), err
	}
	eventually(t, "Redis answers", func() bool {
		var err error
		if conn, err = net.Dial("unix", socket); err != nil {
			return false
		}
		said, err := ask("EXISTS x")
		return err == nil && strings.HasPrefix(said, ":")
	})
	t.Cleanup(func() { _ = conn.Close() })
	return ask
}

// sqliteShell runs statements of one line each and returns their one line.
func sqliteShell(t testing.TB, path string) func(statement string) (string, error) {
	t.Helper()
	shell := exec.Command("stdbuf", "-oL", "sqlite3", "-batch", path)
	in, err1 := shell.StdinPipe()
	out, err2 := shell.StdoutPipe()
	shell.Stderr = shell.Stdout
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = shell.Wait() })
	lines := bufio.NewReader(out)
	_, _ = io.WriteString(in, ".timeout 30000\n")
	return func(statement string) (string, error) {
		if _, err := fmt.Fprintf(in, "%s;\n", statement); err != nil {
			return "", err
		}
		line, err := lines.ReadString('\n')
		return strings.TrimSpace(line), err
	}
}

// Sets of a volume with Redis and SQLite on it, both busy: each set's files are whole, have everything that was confirmed before
// the set's instant, and nothing that was begun after the thaw; the clients wait and see no error.
func TestKeyValue(t *testing.T) {
	point := thinVolumes(t, 1)[0].Point
	dir, db := point+"/redis", point+"/app.db"
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	configure(t, map[string]string{
		"writers.d/redis.yaml":  "session: [fermata-writer, redis, --address, " + dir + "/s]\nverify: true\n",
		"writers.d/sqlite.yaml": "session: [fermata-writer, sqlite, " + db + "]\nverify: true\n",
		"policies.d/kv.yaml":    "volumes: [" + point + "]\nwriters: [redis, sqlite]\n",
	})
	ask, sql := redisServer(t, dir), sqliteShell(t, db)
	if said, err := sql("PRAGMA journal_mode = WAL"); said != "wal" {
		t.Fatalf("%s, %v", said, err)
	}
	if said, err := sql("CREATE TABLE t (n INTEGER PRIMARY KEY); SELECT 'made'"); said != "made" {
		t.Fatalf("%s, %v", said, err)
	}
	idleHolds(t, "kv")
	redis := count(t, "Redis", func() error {
		said, err := ask("INCR n")
		if err == nil && !strings.HasPrefix(said, ":") {
			err = fmt.Errorf("it said %q", said)
		}
		return err
	})
	sqlite := count(t, "SQLite", func() error {
		said, err := sql("INSERT INTO t VALUES (NULL) RETURNING n")
		if err == nil && strings.Trim(said, "0123456789") != "" {
			err = fmt.Errorf("it said %q", said)
		}
		return err
	})
	loaded := holds{}
	for range writerSets(t) {
		eventually(t, "both go on", func() bool { return redis.confirmed.Load() > 10 && sqlite.confirmed.Load() > 10 })
		m := create(t, "--policy", "kv")
		loaded.add(m)
		if m.Consistency != api.Application {
			t.Errorf("the set claims %s: %v", m.Consistency, m.Reasons)
		}
		var mounts []api.Mount
		decode(t, must(t, "snapshot", "mount", m.ID, "--json"), &mounts)
		copied := t.TempDir()
		labtest.Run(t, "cp", "-a", mounts[0].Path+"/redis", mounts[0].Path+"/app.db", mounts[0].Path+"/app.db-wal", copied)
		must(t, "snapshot", "umount", m.ID)
		labtest.Run(t, "rm", "-f", copied+"/redis/s")
		labtest.Run(t, "redis-check-aof", copied+"/redis/appendonlydir/appendonly.aof.manifest")
		said, err := redisServer(t, copied+"/redis")("INCR n")
		from, to := redis.bounds(m)
		within(t, "Redis", strings.TrimPrefix(said, ":"), err, from+1, to+1) // which has counted once more
		check := sqliteShell(t, copied+"/app.db")
		if said, err := check("PRAGMA integrity_check"); said != "ok" {
			t.Errorf("SQLite: %s, %v", said, err)
		}
		said, err = check("SELECT max(n) FROM t")
		from, to = sqlite.bounds(m)
		within(t, "SQLite", said, err, from, to)
		var v api.Verification
		decode(t, must(t, "snapshot", "verify", m.ID, "--json"), &v)
		if said := fmt.Sprint(v); !v.OK || !strings.Contains(said, "check-aof") || !strings.Contains(said, "integrity_check") {
			t.Errorf("verified: %s", said)
		}
	}
	loaded.report(t, "loaded")
}

// within fails unless a set has a number between these.
func within(t testing.TB, what, said string, err error, from, to int64) {
	t.Helper()
	n, bad := strconv.ParseInt(said, 10, 64)
	if err != nil || bad != nil || n < from || n > to {
		t.Errorf("%s: the set has %q (%v), want %d to %d", what, said, err, from, to)
	}
}
