package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// dying is what a killed daemon gets to leave the kernel.
const (
	dying      = 2 * time.Second
	dyingPause = 20 * time.Millisecond // between two looks
)

// ErrNotAlone: another daemon lives.
var ErrNotAlone = errors.New("another fermatad runs")

// Alone makes sure that no other daemon lives with the same RunDir, from now until this process ends: a start would release and
// remove what that has in flight. One that has been killed, and is stuck in the kernel, is waited for a moment only. Any other
// error than ErrNotAlone means that nobody knows.
func Alone(runDir string) error { return alone(runDir, dying) }

func alone(runDir string, patience time.Duration) error {
	fail := func(err error) error { return fmt.Errorf("cannot look for another daemon: %w", err) }
	if err := os.MkdirAll(runDir, 0o711); err != nil {
		return fail(err)
	}
	fd, err := unix.Open(filepath.Join(runDir, "fermatad.lock"), unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fail(err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(dyingPause) {
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			break
		}
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		defer unix.Close(fd)
		text := make([]byte, 32)
		n, _ := unix.Pread(fd, text, 0)
		pid := strings.TrimSpace(string(text[:max(n, 0)]))
		status, err := os.ReadFile(filepath.Join("/proc", filepath.Base(pid), "status"))
		if err == nil && isDying(string(status)) {
			return nil
		}
		return fmt.Errorf("%w, as process %s, on what is in %s (systemctl stop fermatad)", ErrNotAlone, pid, runDir)
	}
	if err == nil { // the descriptor is never closed: the lock ends with the process
		err = unix.Ftruncate(fd, 0)
	}
	if err == nil {
		_, err = unix.Pwrite(fd, strconv.AppendInt(nil, int64(os.Getpid()), 10), 0)
	}
	if err != nil {
		return fail(err)
	}
	return nil
}

// isDying reads /proc/PID/status: the process has been killed, and some thread of it has not left the kernel yet. Its first thread
// is a zombie then, or has SIGKILL pending.
func isDying(status string) bool {
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "State":
			if strings.HasPrefix(value, "Z") || strings.HasPrefix(value, "X") {
				return true
			}
		case "SigPnd", "ShdPnd":
			if mask, err := strconv.ParseUint(value, 16, 64); err == nil && mask&(1<<(unix.SIGKILL-1)) != 0 {
				return true
			}
		}
	}
	return false
}
