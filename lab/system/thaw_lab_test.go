//go:build lab

package system

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	panicverb "github.com/fermata-project/fermata/daemon/thaw"
	"github.com/fermata-project/fermata/fsfreeze/rescue"
	"github.com/fermata-project/fermata/lab/labtest"
)

// gate is a device on the second disk. While it is suspended, a write from its mapped pages stays in the kernel, and FIFREEZE
// waits for it.
const gate = "fermata-gate"

// stuckWindow takes a set of /srv/v1 whose FIFREEZE hangs until gate is resumed. It returns the command.
func stuckWindow(t *testing.T) *exec.Cmd {
	t.Helper()
	configure(t, map[string]string{
		"policies.d/stuck.yaml": "volumes: [/srv/v1]\nwriters: [slow]\nlimits: {freeze: 60s}\n",
		"writers.d/slow.yaml":   "session: [/usr/bin/fermata-writer, test, --delay, 2s, --delay-at, freeze]\n",
	})
	labtest.Run(t, "dmsetup", "create", gate, "--table", "0 16384 linear "+labtest.Disks(t)[1]+" 0")
	t.Cleanup(func() {
		labtest.Run(t, "dmsetup", "resume", gate)
		labtest.Run(t, "dmsetup", "remove", "--retry", gate)
	})
	c := exec.Command("fermata", "snapshot", "create", "--policy", "stuck")
	var stderr strings.Builder
	c.Stderr = &stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { t.Logf("snapshot create: %s", stderr.String()) })
	journalled(t, "freeze-writers") // after the probe and the arming, which freeze too
	stickWriter(t, "/srv/v1/stuck")
	journalled(t, "window")
	eventually(t, "FIFREEZE hangs", func() bool {
		out, _ := labtest.Try(t, "ps", "-eLo", "comm,stat")
		return regexp.MustCompile(`(?m)^fermatad +D`).MatchString(out)
	})
	return c
}

// stickWriter has a thread write to a file until gate is resumed.
func stickWriter(t *testing.T, name string) {
	t.Helper()
	dev, err := os.Open("/dev/mapper/" + gate)
	if err != nil {
		t.Fatal(err)
	}
	page, err := unix.Mmap(int(dev.Fd()), 4<<20, 4096, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	labtest.Run(t, "dmsetup", "suspend", "--noflush", "--nolockfs", gate)
	done := make(chan error, 1)
	go func() {
		_, _, errno := unix.Syscall(unix.SYS_WRITE, file.Fd(), uintptr(unsafe.Pointer(&page[0])), uintptr(len(page)))
		done <- errors.Join(errnoError(errno), unix.Munmap(page), dev.Close(), file.Close(), os.Remove(name))
	}()
	t.Cleanup(func() {
		labtest.Run(t, "dmsetup", "resume", gate)
		if err := <-done; err != nil {
			t.Errorf("the stuck writer: %v", err)
		}
	})
}

func errnoError(e unix.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

// journalled waits until the daemon is at a step.
func journalled(t *testing.T, step string) {
	t.Helper()
	eventually(t, "the step "+step, func() bool {
		files, _ := filepath.Glob("/run/fermata/journal/*.journal")
		if len(files) == 0 {
			return false
		}
		b, _ := os.ReadFile(files[0])
		return strings.Contains(string(b), `"step":"`+step+`"`)
	})
}

// killBoth leaves /srv/v1 frozen by a daemon and a guard that are dead, and /srv/v2 by somebody else.
func killBoth(t *testing.T, vols []labtest.Volume) {
	t.Helper()
	noRestart(t)
	c := stuckWindow(t)
	labtest.Run(t, "systemctl", "kill", "-s", "KILL", "fermata-guard")
	labtest.Run(t, "systemctl", "kill", "--kill-who=main", "-s", "KILL", "fermatad")
	labtest.Run(t, "dmsetup", "resume", gate)
	c.Wait()
	eventually(t, "the daemon is dead", func() bool {
		_, status := labtest.Try(t, "pgrep", "-x", "fermatad")
		return status != 0
	})
	labtest.Run(t, "fsfreeze", "-f", vols[1].Point)
	if isWritable(vols[0].Point) || isWritable(vols[1].Point) {
		t.Fatal("nothing is frozen: nothing is tested")
	}
}

// Daemon and guard are dead: the next start, of the guard first, releases what was held, and nothing that is somebody else's.
func TestStartAfterDaemonAndGuardDied(t *testing.T) {
	vols := thinVolumes(t, 2)
	killBoth(t, vols)
	labtest.Run(t, "systemctl", "restart", "fermatad")
	eventually(t, "what was held is released", func() bool { return isWritable(vols[0].Point) })
	if isWritable(vols[1].Point) {
		t.Error("somebody else's filesystem was thawed")
	}
	released := regexp.MustCompile(`released what a dead daemon had left.*/srv/v1|thawed /srv/v1`)
	if left := sets(t); len(left) > 0 || !released.MatchString(journal(t)) {
		t.Errorf("left %+v; the log: %s", left, journal(t))
	}
	labtest.Run(t, "fsfreeze", "-u", vols[1].Point)
	for _, v := range vols {
		v.Writable(t)
		labtest.Run(t, "umount", v.Point)
		v.Mount(t) // no freeze is still counted
	}
}

// Daemon and guard are dead, the daemon's filesystem is frozen, and the program itself lies on it: thaw releases it, and
// nothing that is somebody else's.
func TestThawAfterDaemonAndGuardDied(t *testing.T) {
	vols := thinVolumes(t, 2)
	program := static(t, vols[0].Point)
	killBoth(t, vols)
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		t.Fatal(err)
	}

	trace := "/run/thaw.trace"
	defer os.Remove(trace)
	begin := time.Now()
	strace := exec.Command("strace", "-f", "-o", trace, program, "thaw")
	strace.Dir = vols[0].Point
	strace.Env = []string{"DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nowhere"}
	out, err := strace.CombinedOutput()
	if err != nil || !regexp.MustCompile(`^thawed /srv/v1 \(set \S+\)\n$`).Match(out) {
		t.Errorf("got %q, %v", out, err)
	}
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	quietUntilThaw(t, trace)
	if !isWritable(vols[0].Point) {
		t.Error("it is still frozen")
	}
	// Again: nothing is ours any more. What the daemon finds frozen when it starts is somebody else's, too.
	labtest.Run(t, "fsfreeze", "-f", vols[0].Point)
	if out := must(t, "thaw"); out != "nothing was frozen\n" {
		t.Errorf("again: got %q", out)
	}
	labtest.Run(t, "systemctl", "restart", "fermatad")
	if n := len(sets(t)); n != 0 {
		t.Errorf("%d sets exist", n)
	}
	for _, v := range vols {
		labtest.Run(t, "fsfreeze", "-u", v.Point) // fails if it is not frozen any more
		v.Writable(t)
	}
	if left := snapshotLVs(t); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

// A thaw while a set's freeze is under way takes effect as soon as the freeze is complete. The living daemon finds its hold
// broken, and nothing is kept.
func TestThawBreaksASet(t *testing.T) {
	vols := thinVolumes(t, 1)
	c := stuckWindow(t)
	verb := exec.Command("fermata", "thaw", "--json")
	var out strings.Builder
	verb.Stdout = &out
	if err := verb.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "thaw is at work", func() bool {
		out, _ := labtest.Try(t, "ps", "-eLo", "comm,cls")
		return regexp.MustCompile(`(?m)^fermata +FF`).MatchString(out)
	})
	labtest.Run(t, "dmsetup", "resume", gate)
	if err := verb.Wait(); err != nil {
		t.Errorf("thaw: %v", err)
	}
	var r panicverb.Report
	decode(t, out.String(), &r)
	c.Wait()
	if status := c.ProcessState.ExitCode(); status != 4 {
		t.Errorf("exit status %d, want 4\n%s", status, journal(t))
	}
	if len(r.Outcomes) != 1 || r.Outcomes[0].Name != "/srv/v1" || r.Outcomes[0].Result != rescue.Released || r.Outcomes[0].Set == "" {
		t.Errorf("got %+v", r)
	}
	if len(r.Left) != 1 || r.Left[0] != gate {
		t.Errorf("the suspended device: got %v", r.Left)
	}
	if left := snapshotLVs(t); left != "" {
		t.Errorf("left behind: %s", left)
	}
	if n := len(sets(t)); n != 0 {
		t.Errorf("%d sets exist", n)
	}
	vols[0].Writable(t)
	create(t, vols[0].Point)
}

// Without a journal that can be read nothing is known to be ours; what is named, or everything, can still be released.
func TestThawWithoutJournal(t *testing.T) {
	vols := thinVolumes(t, 3)
	labtest.Run(t, "systemctl", "stop", "fermatad")
	bad := "/run/fermata/journal/damaged.journal"
	if err := os.MkdirAll(filepath.Dir(bad), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bad, []byte("00000000 {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(bad)
	for _, v := range vols {
		labtest.Run(t, "fsfreeze", "-f", v.Point)
	}
	labtest.Run(t, "dmsetup", "suspend", "--nolockfs", "vg-v1")
	labtest.Run(t, "dmsetup", "suspend", "--nolockfs", "vg-v3")
	defer labtest.Try(t, "dmsetup", "resume", "vg-v1")
	defer labtest.Try(t, "dmsetup", "resume", "vg-v3")

	a := fermata(t, "thaw")
	if a.status != 1 || !strings.Contains(a.stderr, "damaged.journal: the journal is corrupt") ||
		!strings.Contains(a.stderr, "left alone: device vg-v1 is suspended") || !strings.Contains(a.stderr, "fermata thaw --all") {
		t.Errorf("got %+v", a)
	}
	for _, v := range vols {
		if isWritable(v.Point) {
			t.Errorf("%s was released, and was not ours", v.Point)
		}
	}
	a = fermata(t, "thaw", vols[0].Point, vols[1].Point)
	if a.status != 0 || a.stdout != "resumed vg-v1\nthawed /srv/v1\nthawed /srv/v2\n" || !strings.Contains(a.stderr, "3 of these were not Fermata's") {
		t.Errorf("got %+v", a)
	}
	vols[0].Writable(t)
	vols[1].Writable(t)
	if isWritable(vols[2].Point) {
		t.Error("what was not named was released")
	}
	a = fermata(t, "thaw", "/srv/none")
	if a.status != 1 || !strings.Contains(a.stderr, "cannot thaw /srv/none: it is not a mount point") {
		t.Errorf("got %+v", a)
	}
	a = fermata(t, "thaw", "--all")
	if a.status != 0 || a.stdout != "resumed vg-v3\nthawed /srv/v3\n" {
		t.Errorf("got %+v", a)
	}
	for _, v := range vols {
		v.Writable(t)
		labtest.Run(t, "umount", v.Point)
		v.Mount(t) // no freeze is still counted
	}
}

// static puts a copy of the program on a filesystem; it must need no other file.
func static(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile("/usr/bin/fermata")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "fermata")
	if err := os.WriteFile(program, text, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the program is linked dynamically")
		}
	}
	return program
}

// noRestart keeps systemd from starting daemon and guard again for the duration of the test.
func noRestart(t *testing.T) {
	t.Helper()
	const dropIn = "/run/systemd/system/%s.service.d"
	units := []string{"fermatad", "fermata-guard"}
	for _, unit := range units {
		dir := fmt.Sprintf(dropIn, unit)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "test.conf"), []byte("[Service]\nRestart=no\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	labtest.Run(t, "systemctl", "daemon-reload")
	t.Cleanup(func() {
		for _, unit := range units {
			os.RemoveAll(fmt.Sprintf(dropIn, unit))
		}
		labtest.Run(t, "systemctl", "daemon-reload")
	})
}

// isWritable tries for a second. A try that hangs ends with the freeze, and leaves nothing.
func isWritable(point string) bool {
	c := exec.Command("sh", "-c", `touch "$1" && rm "$1"`, "sh", filepath.Join(point, ".try"))
	done := make(chan error, 1)
	if c.Start() != nil {
		return false
	}
	go func() { done <- c.Wait() }()
	select {
	case err := <-done:
		return err == nil
	case <-time.After(time.Second):
		return false
	}
}

var (
	opened  = regexp.MustCompile(`(openat|open)\(.*"([^"]*)", ([A-Z_|]+)`)
	eventfd = regexp.MustCompile(`eventfd2?\(.*= (\d+)`)
	written = regexp.MustCompile(` (?:write|pwrite64|writev)\((\d+),`)
	act     = regexp.MustCompile(`ioctl\(\d+, (FITHAW|_IOC\(.*0x58, 0x78|0xc0045878)`)
)

// quietUntilThaw reads a trace: before the first FITHAW nothing is written but the runtime's own wake-ups, nothing is
// opened for writing but device-mapper's control node, nobody is connected to and nothing is executed.
func quietUntilThaw(t *testing.T, trace string) {
	t.Helper()
	f, err := os.Open(trace)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	wakeups := map[int]bool{}
	executed := 0
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := lines.Text()
		if act.MatchString(line) {
			return
		}
		if m := eventfd.FindStringSubmatch(line); m != nil {
			n, _ := strconv.Atoi(m[1])
			wakeups[n] = true
		}
		if m := written.FindStringSubmatch(line); m != nil {
			if n, _ := strconv.Atoi(m[1]); !wakeups[n] {
				t.Errorf("written: %s", line)
			}
		}
		if m := opened.FindStringSubmatch(line); m != nil && m[2] != "/dev/mapper/control" && regexp.MustCompile(`WR|CREAT|TRUNC|APPEND`).MatchString(m[3]) {
			t.Errorf("opened for writing: %s", line)
		}
		for _, call := range []string{" socket(", " connect(", " sendmsg(", " mkdirat(", " unlinkat(", " renameat", " mknod", " fork(", " vfork("} {
			if strings.Contains(line, call) {
				t.Errorf("before the thaw: %s", line)
			}
		}
		if strings.Contains(line, " execve(") {
			if executed++; executed > 1 {
				t.Errorf("executed: %s", line)
			}
		}
	}
	t.Errorf("the trace has no FITHAW (%v)", lines.Err())
}
