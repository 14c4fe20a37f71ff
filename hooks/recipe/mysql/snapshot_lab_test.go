//go:build lab

package mysql

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fermata-project/fermata/hooks"
)

// What is copied in a hold recovers to exactly what was acknowledged, in tables of
// every kind, and its binary log ends where freeze said. The server is stopped
// for the copy, so that this is of one instant.
func TestCopyOfHold(t *testing.T) {
	for _, lock := range both {
		t.Run(lock, func(t *testing.T) {
			d := shared
			d.tables(t)
			kinds := []string{"i", "m", "a"}
			var counts []*atomic.Int64
			var stops []func()
			for _, table := range kinds {
				count, stop := d.load(t, table)
				counts, stops = append(counts, count), append(stops, stop)
			}
			time.Sleep(200 * time.Millisecond)
			r := d.recipe(t, Options{Lock: lock})
			_, frozen := d.held(t, r)
			time.Sleep(50 * time.Millisecond) // what was acknowledged is on its way to who counts
			copied := d.copied(t)
			var acknowledged []int64
			for _, c := range counts {
				acknowledged = append(acknowledged, c.Load())
			}
			if _, err := d.phase(r, hooks.PhaseThaw); err != nil {
				t.Error(err)
			}
			for _, stop := range stops {
				stop()
			}
			if err := copied.start(); err != nil {
				t.Fatal(err)
			}
			defer copied.kill()
			at := frozen["binlog"].(map[string]any)
			if gtid := copied.must(t, "SELECT @@gtid_binlog_pos AS gtid")[0]["gtid"]; gtid != at["gtid"] {
				t.Errorf("the copy's binary log is at %s, freeze said %s", gtid, at["gtid"])
			}
			for i, table := range kinds {
				if rows := copied.must(t, "SELECT COUNT(*) AS n FROM shop."+table); rows[0]["n"] != fmt.Sprint(acknowledged[i]) || acknowledged[i] == 0 {
					t.Errorf("table %s has %s rows, %d were acknowledged", table, rows[0]["n"], acknowledged[i])
				}
				for _, said := range copied.must(t, "CHECK TABLE shop."+table) { // a warning, that it was not closed, has a line of its own
					if said["msg_text"] != "OK" {
						t.Errorf("CHECK TABLE %s: %v", table, said)
					}
				}
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			d.free(t)
		})
	}
}

// copied is a server of its own on a copy of this one's files, which are of one instant. It does not run yet.
func (d *database) copied(t *testing.T) *database {
	t.Helper()
	c := &database{limit: d.limit, top: t.TempDir(), cred: d.cred}
	c.data, c.socket = filepath.Join(c.top, "data"), filepath.Join(c.top, "socket")
	d.standStill(t)
	out, err := exec.Command("cp", "-a", d.data, c.data).CombinedOutput()
	if err := d.process.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for dir := c.top; dir != "/tmp"; dir = filepath.Dir(dir) { // the server's user has to pass
		if out, err := exec.Command("chmod", "o+x", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if out, err := exec.Command("chown", strconv.Itoa(int(d.cred.Uid)), c.top).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return c
}

// standStill stops the server, all its threads.
func (d *database) standStill(t *testing.T) {
	t.Helper()
	if err := d.process.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		out, err := exec.Command("ps", "-L", "-o", "stat=", "-p", strconv.Itoa(d.process.Process.Pid)).Output()
		if err != nil {
			t.Fatal(err)
		}
		stopped := true
		for _, stat := range strings.Fields(string(out)) {
			stopped = stopped && stat[0] == 'T'
		}
		if stopped {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the server does not stop: %s", out)
		}
	}
}
