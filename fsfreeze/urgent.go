package fsfreeze

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Urgent gives the calling thread the lowest real-time priority (SCHED_FIFO 1, sched(7)): inside the freeze window nobody
// else's processor time may come first, since everybody else may be waiting for the window to end. The thread must be
// locked to its goroutine, and end with it. Without it (no CAP_SYS_NICE) a window is longer under load, and nothing else.
func Urgent() error {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		return fmt.Errorf("cannot give the freeze window priority: %w", err)
	}
	return nil
}
