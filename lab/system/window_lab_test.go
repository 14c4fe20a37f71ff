//go:build lab

package system

import (
	"bufio"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/lab/labtest"
)

// allowed are the system calls that may happen in the daemon between the first FIFREEZE and the last FITHAW. None of them
// starts a program, opens or writes a file, or sends a message. What the Go runtime does by itself is among them: starting
// and waking threads, looking at the clock, closing what a goroutine elsewhere is done with.
var allowed = regexp.MustCompile(`^(ioctl|pread64|close|futex|nanosleep|clock_nanosleep|clock_gettime|gettimeofday|time|epoll_pwait|epoll_ctl|sched_yield|getpid|gettid|tgkill|sigaltstack|rt_sig\w+|restart_syscall|madvise|sched_getaffinity|timer_\w+|exit)$`)

// Inside the freeze window: no exec, no file write, no log line. strace sees every system call of every thread of the
// daemon while sets of four volumes are taken.
func TestNothingElseInTheWindow(t *testing.T) {
	vols := thinVolumes(t, 4)
	create(t, points(vols)...) // starts the daemon
	pid := strings.TrimSpace(labtest.Run(t, "systemctl", "show", "-P", "MainPID", "fermatad"))
	file := "/run/strace.out"
	defer os.Remove(file)
	s := exec.Command("strace", "-f", "-y", "-tt", "-s", "200", "-o", file, "-p", pid)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	for range 3 {
		create(t, points(vols)...)
	}
	s.Process.Signal(os.Interrupt)
	s.Wait()
	windows := freezeWindows(t, file)
	if len(windows) != 3 {
		t.Fatalf("%d windows with a capture were traced, want 3", len(windows))
	}
	for _, w := range windows {
		t.Logf("%d system calls in a window", len(w))
		for _, line := range w {
			m := call.FindStringSubmatch(line)
			if m != nil && !allowed.MatchString(m[2]) && !runtimeOwn.MatchString(line) {
				t.Errorf("in the window: %s", line)
			}
		}
	}
}

var (
	call = regexp.MustCompile(`^(\d+) +[\d:.]+ (\w+)\(`)
	// The runtime starts threads, and wakes its poller by an event descriptor, which is no file.
	runtimeOwn = regexp.MustCompile(`(clone3?\(.*CLONE_THREAD|write\(\d+<anon_inode:\[eventfd\]>, "\\1\\0\\0\\0\\0\\0\\0\\0", 8|read\(\d+<anon_inode:\[eventfd\]>)`)
	freeze     = regexp.MustCompile(`ioctl\(\d+(?:<[^>]*>)?, (FIFREEZE|_IOC\(_IOC_READ\|_IOC_WRITE, 0x58, 0x77, 0x4\)|0xc0045877)`)
	thaw       = regexp.MustCompile(`ioctl\(\d+(?:<[^>]*>)?, (FITHAW|_IOC\(_IOC_READ\|_IOC_WRITE, 0x58, 0x78, 0x4\)|0xc0045878)`)
	capture    = regexp.MustCompile(`DM_TARGET_MSG`)
)

// freezeWindows cuts a trace into what lies between the first freeze and the last thaw of each capture. The probe's
// windows, which hold one filesystem for a moment, have no capture.
func freezeWindows(t *testing.T, file string) [][]string {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var windows [][]string
	var now []string
	frozen, captured := 0, false
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if freeze.MatchString(line) {
			frozen++
		}
		if frozen > 0 {
			now = append(now, line)
			captured = captured || capture.MatchString(line)
		}
		if thaw.MatchString(line) {
			if frozen--; frozen == 0 {
				if captured {
					windows = append(windows, now)
				}
				now, captured = nil, false
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return windows
}
