//go:build lab

package system

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/lab/labtest"
)

// Soak: FERMATA_SOAK_SETS sets (100 unless said) in a row, under load, among them some that something befalls. One in four is
// of a thin volume, the others are of provider dm, whose sets take a third of the time: LVM is not asked. At the end daemon and
// guard have as many descriptors and threads and as much memory as at the beginning, nothing is left of any set, and a set
// takes as long as one of its kind did then. In the first fifth the daemon is killed sometimes; then the same one lives on.
func TestSoak(t *testing.T) {
	n := 100
	if v := os.Getenv("FERMATA_SOAK_SETS"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil || n < 20 {
			t.Fatalf("FERMATA_SOAK_SETS: %q is not a number of at least 20", v)
		}
	}
	seed := seedOf(t)
	s := prepareSoak(t)
	random := rand.New(rand.NewPCG(seed, 2))
	progress := labtest.Stalled(t, 3*time.Minute)
	took := map[string][]time.Duration{}
	var before map[string]int
	befallen := map[string]int{}
	for i := range n {
		progress()
		if i > 0 && i%(n/5) == 0 {
			r := s.resources(t)
			t.Logf("after %d of %d sets: %v", i, n, r)
			if i == n/5 {
				before, took = r, map[string][]time.Duration{}
			}
		}
		if f := s.choose(random, i < n/5); f != nil {
			befallen[f.name]++
			f.befall(t, s)
			s.none(t, f.name)
			continue
		}
		policy := "dm"
		if i%4 == 0 {
			policy = "plain"
		}
		begin := time.Now()
		id := strings.TrimSpace(must(t, "snapshot", "create", "-q", "--policy", policy))
		took[policy] = append(took[policy], time.Since(begin))
		must(t, "snapshot", "delete", id)
	}
	s.load.stop(t)
	after := s.resources(t)
	for what, b := range before {
		// Go keeps threads that it once needed, and memory that it once had; what leaks grows with the number of sets.
		if a := after[what]; a > b+b/4+8 {
			t.Errorf("%s: %d, and %d after %d sets", what, b, a, n-n/5)
		}
	}
	s.clean.Same(t)
	fmt.Printf("note: soak, Linux %s, seed %d: %d sets, befallen: %v; a set took%s%s; %v, then %v\n",
		release(t), seed, n, befallen, pace(t, "thin", took["plain"]), pace(t, "dm", took["dm"]), before, after)
}

// pace compares how long sets took, at the end, with how long they took at first.
func pace(t *testing.T, kind string, took []time.Duration) string {
	t.Helper()
	third := len(took) / 3
	if third == 0 {
		return ""
	}
	first, last := median(took[:min(third, 100)]), median(took[len(took)-min(third, 100):])
	if ratio := last.Seconds() / first.Seconds(); ratio > 3 && len(took) >= 100 { // a few say nothing, on a machine that does other things
		t.Errorf("a set of kind %s took %v at first, and %v at the end", kind, first, last)
	}
	return fmt.Sprintf(" (%s) %v at first, %v at the end", kind, first.Round(time.Millisecond), last.Round(time.Millisecond))
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

// soak is what a soak needs.
type soak struct {
	points []string
	load   *load
	clean  labtest.State
}

func prepareSoak(t *testing.T) *soak {
	t.Helper()
	withoutUdev(t)
	s := &soak{points: points(thinVolumes(t, 1))}
	plain := dmVolume(t, "plain", 64).Point
	volumes := "volumes: [" + strings.Join(s.points, ", ") + "]\nwriters: ["
	files := map[string]string{"policies.d/dm.yaml": "volumes: [" + plain + "]\n"}
	for name, does := range map[string]string{"plain": "", "fails": ", --fail-at, freeze", "hangs": ", --hang-at, freeze", "quits": ", --exit-at, hold"} {
		files["policies.d/"+name+".yaml"] = volumes + name + "]\n"
		files["writers.d/"+name+".yaml"] = "session: [/usr/bin/fermata-writer, test" + does + "]\ntimeouts: {freeze: 1s}\n"
	}
	configure(t, files)
	for _, policy := range []string{"plain", "dm"} {
		must(t, "snapshot", "delete", strings.TrimSpace(must(t, "snapshot", "create", "-q", "--policy", policy)))
	}
	s.clean = labtest.Look(t)
	s.load = startWriters(t, append(s.points, plain), 29)
	return s
}

// mishap is what befalls a set, which then does not exist.
type mishap struct {
	name   string
	befall func(t *testing.T, s *soak)
}

var mishaps = []mishap{
	{"a writer fails", func(t *testing.T, _ *soak) { refusedSet(t, "fails", 1) }},
	{"a writer hangs", func(t *testing.T, _ *soak) { refusedSet(t, "hangs", 4) }},
	{"a writer quits", func(t *testing.T, _ *soak) { refusedSet(t, "quits", 4) }},
	{"the lock of LVM is held", func(t *testing.T, _ *soak) {
		f, err := os.OpenFile("/run/lock/lvm/V_vg", os.O_RDWR|os.O_CREATE, 0o600)
		if err == nil {
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		}
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, func() { f.Close() })
		must(t, "snapshot", "delete", strings.TrimSpace(must(t, "snapshot", "create", "-q", "--policy", "plain")))
	}},
	{"thawed by somebody else", func(t *testing.T, s *soak) {
		fd, err := unix.Open(s.points[0], unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		stop, stopped := make(chan bool), make(chan bool)
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Microsecond):
					fsfreeze.Thaw(fd)
				}
			}
		}()
		a := fermata(t, "snapshot", "create", "-q", "--policy", "plain")
		close(stop)
		<-stopped
		if a.status == 0 { // it was never frozen when it was thawed
			must(t, "snapshot", "delete", strings.TrimSpace(a.stdout))
		} else if !strings.Contains(a.stderr, "somebody else thawed it") {
			t.Errorf("got %+v", a)
		}
	}},
}

var killed = mishap{"the daemon is killed", func(t *testing.T, _ *soak) {
	time.AfterFunc(time.Duration(rand.IntN(1000))*time.Millisecond, func() { labtest.Try(t, "pkill", "-KILL", "-x", "fermatad") })
	fermata(t, "snapshot", "create", "-q", "--policy", "plain") // done or not
	eventually(t, "the daemon is there again", func() bool { return fermata(t, "snapshot", "list", "-q").status == 0 })
	labtest.Run(t, "systemctl", "reset-failed", "fermatad.service")
	for _, m := range sets(t) { // it was finished before
		must(t, "snapshot", "delete", m.ID)
	}
}}

// choose is what befalls a set: one in five.
func (s *soak) choose(random *rand.Rand, kill bool) *mishap {
	switch i := random.IntN(5 * (len(mishaps) + 1)); {
	case i < len(mishaps):
		return &mishaps[i]
	case i == len(mishaps) && kill:
		return &killed
	}
	return nil
}

func refusedSet(t *testing.T, policy string, status int) {
	t.Helper()
	if a := fermata(t, "snapshot", "create", "-q", "--policy", policy); a.status != status {
		t.Errorf("policy %s: exit status %d, want %d: %s", policy, a.status, status, a.stderr)
	}
}

// none checks that no set is there.
func (s *soak) none(t *testing.T, after string) {
	t.Helper()
	if list := sets(t); len(list) > 0 {
		t.Errorf("after %s there are sets: %+v", after, list)
	}
	if left := snapshotLVs(t); left != "" {
		t.Errorf("after %s there are %s", after, left)
	}
}

// resources are what daemon and guard have.
func (s *soak) resources(t *testing.T) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, program := range []string{"fermatad", "fermata-guard"} {
		dir := "/proc/" + strings.TrimSpace(labtest.Run(t, "pgrep", "-x", program))
		for what, sub := range map[string]string{"descriptors": "fd", "threads": "task"} {
			entries, err := os.ReadDir(filepath.Join(dir, sub))
			if err != nil {
				t.Fatal(err)
			}
			out[program+" "+what] = len(entries)
		}
		status, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)
		if m == nil {
			t.Fatalf("no VmRSS in %s", status)
		}
		kib, err := strconv.Atoi(string(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		out[program+" MiB"] = kib >> 10
	}
	return out
}
