package labtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Stalled watches a long test: if the function that it returns is not called for limit, it tells on standard error what
// every process of the guest is waiting for, and ends the program. A hang would otherwise say nothing at all.
func Stalled(t testing.TB, limit time.Duration) (progress func()) {
	t.Helper()
	timer := time.AfterFunc(limit, func() {
		fmt.Fprintf(os.Stderr, "%s: no progress for %v\n%s", t.Name(), limit, Blocked())
		os.Exit(2)
	})
	t.Cleanup(func() { timer.Stop() })
	return func() { timer.Reset(limit) }
}

// Blocked describes the guest's threads that are not merely asleep, its devices, and the last words of its journal.
func Blocked() string {
	var out strings.Builder
	for _, argv := range [][]string{
		{"dmsetup", "info", "-c"}, {"dmsetup", "status"}, {"cat", "/proc/self/mounts"}, {"cat", "/proc/interrupts"}, {"ps", "-eLo", "pid,tid,stat,wchan:32,args"},
		{"journalctl", "--no-pager", "-n", "40", "-o", "short-monotonic"}, {"dmesg"},
	} {
		c := exec.Command("timeout", append([]string{"10"}, argv...)...)
		b, err := c.CombinedOutput()
		fmt.Fprintf(&out, "--- %s (%v)\n%s", strings.Join(argv, " "), err, b)
	}
	stacks, _ := filepath.Glob("/proc/[0-9]*/task/[0-9]*/stack")
	for _, s := range stacks {
		dir := filepath.Dir(s)
		stat, _ := os.ReadFile(filepath.Join(dir, "stat"))
		_, rest, _ := strings.Cut(string(stat), ") ")
		if strings.HasPrefix(rest, "D") || strings.HasPrefix(rest, "R") {
			b, _ := os.ReadFile(s)
			fmt.Fprintf(&out, "--- %s\n%s", strings.TrimSpace(string(stat)), b)
		}
	}
	return out.String()
}
