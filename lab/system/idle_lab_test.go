//go:build lab

package system

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/lab/labtest"
)

// used is what a process has used.
type used struct {
	processor time.Duration // since it began
	resident  int           // KiB
}

// usedBy reads it of a unit.
func usedBy(t testing.TB, unit string) (u used) {
	t.Helper()
	show := func(property string) string {
		return strings.TrimSpace(labtest.Run(t, "systemctl", "show", "-P", property, unit))
	}
	microseconds := field(t, "/sys/fs/cgroup"+show("ControlGroup")+"/cpu.stat", "usage_usec")
	return used{time.Duration(microseconds) * time.Microsecond, field(t, "/proc/"+show("MainPID")+"/status", "VmRSS:")}
}

// field is the number after a name in a file.
func field(t testing.TB, path, name string) int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(text))
	i := slices.Index(words, name)
	if i < 0 {
		t.Fatalf("%s has no %s", path, name)
	}
	n, err := strconv.Atoi(words[i+1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// spaces makes so many copy-on-write areas of 50 GiB, of one volume, and thin pools of 100 GiB, by device-mapper alone. What of
// them is used is on a disk, the rest is zeros: a small one would be looked at each second, for it could be full in the next.
func spaces(t testing.TB, areas, pools int) {
	t.Helper()
	const head, meta, area, data = 512, 16 << 11, 50 << 21, 100 << 21 // sectors
	path := labtest.Disks(t)[0]
	disk, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	var names, tables []string
	device := func(name string, lines ...string) string {
		tables = append(tables, fmt.Sprintf("%s,%s,,rw,%s", name, name, strings.Join(lines, ",")))
		names = append([]string{name}, names...)
		return "/dev/mapper/" + name
	}
	at, empty := 0, make([]byte, 4096)
	part := func(sectors int) string {
		if _, err := disk.WriteAt(empty, int64(at)*512); err != nil { // as if nobody had used it
			t.Fatal(err)
		}
		at += sectors
		return fmt.Sprintf("0 %d linear %s %d", sectors, path, at-sectors)
	}
	of := device("idle-origin", part(head))
	for i := range areas {
		cow := device(fmt.Sprintf("idle-cow%d", i), part(head), fmt.Sprintf("%d %d zero", head, area-head))
		device(fmt.Sprintf("idle-s%d", i), fmt.Sprintf("0 %d snapshot %s %s P 8", head, of, cow))
	}
	for i := range pools {
		m, d := device(fmt.Sprintf("idle-meta%d", i), part(meta)), device(fmt.Sprintf("idle-data%d", i), fmt.Sprintf("0 %d zero", data))
		device(fmt.Sprintf("idle-pool%d", i), fmt.Sprintf("0 %d thin-pool %s %s 128 0", data, m, d))
	}
	if err := disk.Sync(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dmsetup(t, append([]string{"remove", "--retry"}, names...)...) })
	for batch := range slices.Chunk(tables, 500) { // an argument has 128 KiB at most
		dmsetup(t, "create", "--concise", strings.Join(batch, ";"))
	}
}

// dmsetup makes the nodes itself: there is no udev.
func dmsetup(t testing.TB, args ...string) {
	t.Helper()
	c := exec.Command("dmsetup", args...)
	c.Env = append(os.Environ(), "DM_DISABLE_UDEV=1")
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("dmsetup %s: %v\n%s", args[0], err, out)
	}
}

// emptyCall is how long a system call takes that does nothing.
func emptyCall() time.Duration {
	const n = 200000
	began := time.Now()
	for range n {
		unix.Getppid()
	}
	return time.Since(began) / n
}

// syscalls counts what a process asks the kernel for in so many seconds, which takes it much longer meanwhile.
func syscalls(t testing.TB, unit string, seconds int) string {
	t.Helper()
	pid := strings.TrimSpace(labtest.Run(t, "systemctl", "show", "-P", "MainPID", unit))
	out, _ := labtest.Try(t, "timeout", "-s", "INT", fmt.Sprint(seconds), "strace", "-qq", "-c", "-f", "-U", "calls,errors,name", "-p", pid)
	return out
}

// What daemon and exporter use while nothing happens but what the watch does: FERMATA_IDLE (seconds; 5), FERMATA_IDLE_AREAS (20)
// copy-on-write areas, FERMATA_IDLE_POOLS (2), or instead of areas FERMATA_IDLE_THIN inactive thin snapshots, each a set, in that
// many pools of LVM's. It prints, and judges nothing: the machine is not ours.
func TestIdle(t *testing.T) {
	number := func(name string, otherwise int) int {
		if text := os.Getenv(name); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		return otherwise
	}
	seconds, areas, pools, snapshots := number("FERMATA_IDLE", 5), number("FERMATA_IDLE_AREAS", 20), number("FERMATA_IDLE_POOLS", 2), number("FERMATA_IDLE_THIN", 0)
	t.Logf("a system call that does nothing takes %v", emptyCall())
	withoutUdev(t) // there are thousands of devices
	labtest.CheckClean(t)
	labtest.Run(t, "systemctl", "start", "fermata-guard.socket")
	labtest.Run(t, "ip", "link", "set", "lo", "up")
	labtest.Run(t, "systemctl", "start", "fermata-exporter.socket")
	t.Cleanup(func() { labtest.Run(t, "systemctl", "stop", "fermata-exporter.socket", "fermata-exporter.service") })
	if snapshots > 0 {
		manyThin(t, pools, snapshots)
	} else {
		spaces(t, areas, pools)
	}
	configure(t, nil)
	must(t, "status")
	if snapshots > 0 {
		is(t, `fermata_snapshot_sets{policy="many"}`, float64(snapshots))
	} else {
		is(t, `fermata_cow_areas{volume="other"}`, float64(areas))
	}
	if n := strings.Count(metrics(t), `fermata_pool_level{level="ok"`); n != pools {
		t.Fatalf("%d pools are watched", n)
	}
	for _, path := range []string{"/metrics", "/"} {
		best := time.Hour
		for range 5 {
			best = min(best, took(t, path))
		}
		t.Logf("%-9s answered in %v at best", path, best.Round(10*time.Microsecond))
	}
	time.Sleep(2 * time.Second) // what was asked for is cleared away
	units := []string{"fermatad", "fermata-exporter"}
	before, began := map[string]used{}, time.Now()
	for _, unit := range units {
		before[unit] = usedBy(t, unit)
	}
	time.Sleep(time.Duration(seconds) * time.Second)
	for _, unit := range units {
		u := usedBy(t, unit)
		processor, over := u.processor-before[unit].processor, time.Since(began)
		t.Logf("%-16s %8v of processor time in %v: %.3f %%; %.1f MiB resident", unit, processor.Round(10*time.Microsecond), over.Round(time.Second),
			100*processor.Seconds()/over.Seconds(), float64(u.resident)/1024)
		if u.resident == 0 || u.processor == 0 {
			t.Errorf("%s: %+v cannot be", unit, u)
		}
	}
	if os.Getenv("FERMATA_IDLE_CALLS") != "" {
		t.Logf("fermatad, in %d s:\n%s", seconds, syscalls(t, "fermatad", seconds))
	}
}

// took is how long the exporter takes to answer.
func took(t testing.TB, path string) time.Duration {
	t.Helper()
	began := time.Now()
	r, err := http.Get("http://127.0.0.1:9948" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if body, err := io.ReadAll(r.Body); err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v\n%s", path, r.Status, err, body)
	}
	return time.Since(began)
}
