package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// pulseInterval is how long a guest stands still at most when its timer is lost.
const pulseInterval = 100 * time.Millisecond

// pulse keeps a guest's clock going until ended is closed. The kernel arms a one-shot host timer for its next event; on
// Linux 6.1 that timer is lost once in some ten thousand sleeps under load, and then the guest idles for ever: no task is
// blocked, mconsole answers, no timer fires. The host timer's signal, whoever sends it, makes the kernel look at its
// clock and arm the next event (arch/um/kernel/time.c, um_timer), so the supervisor sends one now and then.
func pulse(kernel int, ended <-chan struct{}) {
	tick := time.NewTicker(pulseInterval)
	defer tick.Stop()
	for listening := false; ; {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
		if !listening {
			listening = catches(kernel, unix.SIGALRM)
		}
		if listening {
			_ = unix.Kill(kernel, unix.SIGALRM) // it may just have ended
		}
	}
}

// catches reports whether a process has a handler for a signal: without one SIGALRM would kill it.
func catches(pid int, sig unix.Signal) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	_, rest, found := strings.Cut(string(text), "\nSigCgt:")
	var mask uint64
	if _, err := fmt.Sscanf(rest, "%x", &mask); err != nil || !found {
		return false
	}
	return mask&(1<<(sig-1)) != 0
}
