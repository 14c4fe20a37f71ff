//go:build lab

package system

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/lab/labtest"
)

// heldFreeze has the daemon freeze a filesystem and then do nothing more: strace keeps it from coming back out of the
// FIFREEZE of the probe. kill ends the daemon, and whoever else is named by pid.
func heldFreeze(t *testing.T, point string) (kill func(others ...string)) {
	t.Helper()
	must(t, "snapshot", "create", "--dry-run", point) // starts the daemon
	pid := mainPID(t)
	const trace = "/run/held-freeze.trace"
	t.Cleanup(func() { os.Remove(trace) })
	s := exec.Command("strace", "-f", "-P", point, "-e", "trace=ioctl", "-e", "inject=ioctl:delay_exit=120000000:when=1", "-o", trace, "-p", pid)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	c := exec.Command("fermata", "snapshot", "create", point)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, point+" is frozen", func() bool {
		b, _ := os.ReadFile(trace)
		return freeze.Match(b)
	})
	return func(others ...string) {
		t.Helper()
		labtest.Run(t, append([]string{"kill", "-KILL", pid, strconv.Itoa(s.Process.Pid)}, others...)...)
		t.Cleanup(func() {
			s.Wait()
			c.Wait()
		})
	}
}

func guardPID(t testing.TB) string {
	t.Helper()
	return strings.TrimSpace(labtest.Run(t, "systemctl", "show", "-P", "MainPID", "fermata-guard"))
}

// inGuard are the system calls that the guard may make from the moment that it is armed to the end of its last release. None
// of them allocates or writes: what it does is poll, read, ioctl, and waiting; the rest is the Go runtime's.
var inGuard = regexp.MustCompile(`^(poll|ppoll|read|ioctl|futex|nanosleep|clock_nanosleep|clock_gettime|gettimeofday|time|epoll_pwait|sched_yield|getpid|gettid|tgkill|sigaltstack|rt_sig\w+|restart_syscall|madvise)$`)

// wakesPoller: the Go runtime wakes its poller by an event descriptor, which is no file.
var wakesPoller = regexp.MustCompile(`write\(\d+<anon_inode:\[eventfd\]>, "\\1\\0\\0\\0\\0\\0\\0\\0", 8`)

// The guard, from armed to released: it neither writes, logs nor allocates. It stands in a cgroup of its own, its memory is
// locked, it is the last to be sacrificed, and its threads are urgent.
func TestGuardInTheWindow(t *testing.T) {
	vols := thinVolumes(t, 1)
	must(t, "snapshot", "create", "--dry-run", vols[0].Point)
	labtest.Run(t, "systemctl", "start", "fermata-guard")
	pid := guardPID(t)
	read := func(name string) string {
		b, err := os.ReadFile("/proc/" + pid + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := read("oom_score_adj"); got != "-1000\n" {
		t.Errorf("oom_score_adj is %q", got)
	}
	if got := read("cgroup"); !strings.HasSuffix(got, "/fermata-guard.service\n") {
		t.Errorf("its cgroup is %q", got)
	}
	status := map[string]string{}
	for line := range strings.Lines(read("status")) {
		key, value, _ := strings.Cut(line, ":")
		status[key] = strings.TrimSpace(value)
	}
	kib := func(key string) int {
		n, _ := strconv.Atoi(strings.TrimSuffix(status[key], " kB"))
		return n
	}
	if kib("VmLck") == 0 || kib("VmRSS") < kib("RssFile") || kib("VmSwap") != 0 || kib("RssFile") < kib("VmExe") {
		t.Errorf("its memory: %v", status)
	}

	const trace = "/run/guard.trace"
	defer os.Remove(trace)
	s := exec.Command("strace", "-f", "-y", "-s", "100", "-o", trace, "-p", pid)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	kill := heldFreeze(t, vols[0].Point)
	policy, _ := labtest.Try(t, "ps", "-Lo", "cls", "-p", pid)
	if strings.Count(policy, "FF") < 2 { // who watches, and who thaws
		t.Errorf("its threads: %s", policy)
	}
	kill()
	eventually(t, "it is released", func() bool { return isWritable(vols[0].Point) })
	s.Process.Signal(os.Interrupt)
	s.Wait()
	checkGuard(t, trace)
	must(t, "snapshot", "list")
}

func checkGuard(t *testing.T, trace string) {
	t.Helper()
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	begin := strings.Index(string(text), `{\"armed\":true}`)
	all := thaw.FindAllIndex(text, -1)
	if begin < 0 || len(all) == 0 {
		t.Fatalf("the trace has no hold:\n%s", text)
	}
	held := string(text[begin:all[len(all)-1][0]])
	t.Logf("%d system calls from armed to released", strings.Count(held, "\n"))
	named := regexp.MustCompile(`^\d+ +(\w+)\(`)
	for i, line := range strings.Split(held, "\n") {
		m := named.FindStringSubmatch(line)
		if i > 0 && m != nil && !inGuard.MatchString(m[1]) && !wakesPoller.MatchString(line) {
			t.Errorf("while something was frozen: %s", line)
		}
	}
}
