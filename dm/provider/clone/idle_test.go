package clone

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// What copies waits for everybody else's I/O, and nobody else in the process does.
func TestIdleClass(t *testing.T) {
	const whoProcess, classShift, classIdle = 1, 13, 3
	class := func() uintptr {
		priority, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, whoProcess, 0, 0)
		if errno != 0 {
			t.Error(errno)
		}
		return priority >> classShift
	}
	failed := errors.New("failed")
	if err := idly(func() error {
		if got := class(); got != classIdle {
			t.Errorf("class %d, want %d", got, classIdle)
		}
		return failed
	}); err != failed {
		t.Errorf("got %v", err)
	}
	if got := class(); got == classIdle {
		t.Error("the caller is idle, too")
	}
}
