//go:build lab

package system

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/lab/labtest"
)

// Whatever goes wrong, no snapshot is left, nothing stays frozen, and the database goes on committing.
func TestFaults(t *testing.T) {
	vols := thinVolumes(t, 2)
	db := startPostgres(t, vols[0].Point)
	files := map[string]string{}
	policy := func(name, session string) {
		files["writers.d/"+name+".yaml"] = "session: [/usr/bin/fermata-writer, test, " + session + "]\ntimeouts: {prepare: 2s, freeze: 2s, thaw: 2s, abort: 2s}\n"
		files["policies.d/"+name+".yaml"] = "volumes: [/srv/v1, /srv/v2]\nwriters: [" + name + "]\n"
	}
	policy("fails-prepare", "--fail-at, prepare")
	policy("fails-freeze", "--fail-at, freeze")
	policy("hangs-prepare", "--hang-at, prepare")
	policy("hangs-freeze", "--hang-at, freeze")
	policy("hangs-thaw", "--hang-at, thaw")
	policy("exits-hold", "--exit-at, hold")
	policy("exits-freeze", "--exit-at, freeze")
	policy("lies", "--lie-at, freeze")
	policy("garbage", "--garbage-at, freeze")
	files["providers.d/thin.yaml"] = "reserve: {data: 60%}\n" // so that it takes less to fill
	files["policies.d/plain.yaml"] = "volumes: [/srv/v1, /srv/v2]\n"
	configure(t, files)

	tests := []struct {
		name    string
		setup   func(t *testing.T)
		policy  string
		status  int
		message string
	}{
		{"a writer fails to prepare", nil, "fails-prepare", 1, `cannot prepare writer fails-prepare: `},
		{"a writer fails to freeze", nil, "fails-freeze", 1, `cannot freeze writer fails-freeze: `},
		{"a writer hangs in prepare", nil, "hangs-prepare", 4, `cannot prepare writer hangs-prepare: .*within 2s`},
		{"a writer hangs in freeze", nil, "hangs-freeze", 4, `cannot freeze writer hangs-freeze: .*within 2s`},
		{"a writer hangs in thaw", nil, "hangs-thaw", 4, `cannot thaw writer hangs-thaw: .*hold lost.*within 2s`},
		{"a writer exits during its hold", nil, "exits-hold", 4, `writer exits-hold.*(hold lost|exit)`},
		{"a writer exits instead of holding", nil, "exits-freeze", 1, `cannot freeze writer exits-freeze: `},
		{"a writer lies", nil, "lies", 4, `writer lies.*hold lost`},
		{"a writer talks garbage", nil, "garbage", 1, `cannot freeze writer garbage: `},
		{"a filesystem is frozen already", frozen(vols[1]), "plain", 1, `cannot freeze /srv/v2: device or resource busy: somebody else has frozen it; it is theirs to thaw`},
		{"a pool without room", filled, "plain", 1, `not enough room: pool vg/pool has .*% of its data space free.*lvextend`},
		{"the guard is gone", noGuard, "plain", 1, `cannot arm the guard: .*is fermata-guard.socket started`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Cleanup(func() { // after those of the set-up: what somebody else had frozen is thawed again
				for _, v := range vols {
					v.Writable(t)
				}
			})
			if tt.setup != nil {
				tt.setup(t)
			}
			begin := time.Now()
			a := fermata(t, "snapshot", "create", "--policy", tt.policy)
			if a.status != tt.status || !regexp.MustCompile(`(?s)`+tt.message).MatchString(a.stderr) {
				t.Errorf("exit status %d, want %d; message %q, want %q\n%s", a.status, tt.status, a.stderr, tt.message, journal(t))
			}
			if took := time.Since(begin); took > 30*time.Second {
				t.Errorf("it took %v", took)
			}
			if left := snapshotLVs(t); left != "" {
				t.Errorf("left behind: %s", left)
			}
			vols[0].Writable(t)
			db.committing(t)
			if n := len(sets(t)); n != 0 {
				t.Errorf("%d sets exist", n)
			}
		})
	}
	// Afterwards all is well.
	create(t, "--policy", "plain")
	for _, v := range vols {
		v.Writable(t)
	}
	db.committing(t)
}

// frozen has somebody else freeze a volume for the duration of the test; it must still be theirs afterwards.
func frozen(v labtest.Volume) func(t *testing.T) {
	return func(t *testing.T) {
		labtest.Run(t, "fsfreeze", "-f", v.Point)
		t.Cleanup(func() {
			labtest.Run(t, "fsfreeze", "-u", v.Point) // fails if it is not frozen any more
			v.Writable(t)
			labtest.Run(t, "umount", v.Point)
			v.Mount(t) // the freeze was not counted twice
		})
	}
}

// filled leaves less room in the pool than the reserve.
func filled(t *testing.T) {
	labtest.Run(t, "lvcreate", "-qq", "-y", "-V", "900m", "--thin", "-n", "filler", "vg/pool")
	t.Cleanup(func() { labtest.Run(t, "lvremove", "-qq", "-f", "vg/filler") })
	f, err := os.OpenFile("/dev/vg/filler", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 20<<20)
	for range 45 {
		if _, err := f.Write(block); err != nil {
			t.Fatal(err)
		}
		if dataPercent(t) > 42 {
			return
		}
	}
}

// noGuard stops the guard and its socket for the duration of the test.
func noGuard(t *testing.T) {
	labtest.Run(t, "systemctl", "stop", "fermata-guard.socket", "fermata-guard.service")
	t.Cleanup(func() { labtest.Run(t, "systemctl", "start", "fermata-guard.socket") })
}

// Somebody thaws a filesystem in the window: the hold is broken, and the set does not exist.
func TestThawedFromOutside(t *testing.T) {
	vols := thinVolumes(t, 4)
	stop := make(chan struct{})
	stopped := make(chan struct{})
	fd, err := unix.Open(vols[0].Point, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	go func() { // fsfreeze -u, in the window, not sooner, or it is the probe's freeze that is thawed
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			if entries, _ := filepath.Glob("/run/fermata/journal/*.journal"); len(entries) > 0 {
				if b, _ := os.ReadFile(entries[0]); bytes.Contains(b, []byte(`"window"`)) {
					fsfreeze.Thaw(fd)
				}
			}
		}
	}()
	broken := 0
	for range 20 {
		a := fermata(t, append([]string{"snapshot", "create"}, points(vols)...)...)
		switch {
		case a.status == 4 && regexp.MustCompile(`cannot thaw /srv/v1: invalid argument: somebody else thawed it`).MatchString(a.stderr):
			broken++
		case a.status != 0: // the probe's own freeze was thawed: nothing was taken either
			if !regexp.MustCompile(`somebody else thawed it`).MatchString(a.stderr) {
				t.Fatalf("got %+v\n%s", a, journal(t))
			}
		}
		if a.status != 0 {
			if left := snapshotLVs(t); left != "" {
				t.Fatalf("left behind: %s", left)
			}
		} else {
			must(t, "snapshot", "delete", "latest")
		}
		if broken > 0 {
			break
		}
	}
	close(stop)
	<-stopped
	if broken == 0 {
		t.Error("the thaw never fell into the window: nothing was tested")
	}
	for _, v := range vols {
		v.Writable(t)
	}
}

// Killed while its writers hold, the daemon leaves nothing: the writer lets go, the armed snapshots are removed at the
// next start.
func TestKilledDaemon(t *testing.T) {
	vols := thinVolumes(t, 2)
	configure(t, map[string]string{
		"policies.d/slow.yaml": "volumes: [/srv/v1, /srv/v2]\nwriters: [slow]\n",
		"writers.d/slow.yaml":  "session: [/usr/bin/fermata-writer, test, --delay, 5s, --delay-at, freeze]\n",
	})
	c := exec.Command("fermata", "snapshot", "create", "--policy", "slow")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the snapshots are armed", func() bool {
		entries, _ := filepath.Glob("/run/fermata/journal/*.journal")
		if len(entries) == 0 {
			return false
		}
		b, _ := os.ReadFile(entries[0])
		return regexp.MustCompile(`"freeze-writers"`).Match(b)
	})
	if snapshotLVs(t) == "" {
		t.Error("nothing is armed")
	}
	labtest.Run(t, "systemctl", "kill", "--kill-who=main", "-s", "KILL", "fermatad")
	c.Wait()
	eventually(t, "the writer is gone", func() bool {
		_, status := labtest.Try(t, "pgrep", "fermata-writer")
		return status != 0
	})
	eventually(t, "nothing half-made is left", func() bool { return snapshotLVs(t) == "" })
	for _, v := range vols {
		v.Writable(t)
	}
	create(t, "/srv/v1", "/srv/v2")
}
