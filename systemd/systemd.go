// Package systemd tells systemd how the daemon is: started, stopping, alive. It also keeps the units and the policies
// that a package installs; install.txt lists them with their places.
//
// Without systemd (NOTIFY_SOCKET and WATCHDOG_USEC not set) every function does nothing and returns nil.
package systemd

import (
	"context"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Ready says that the start is finished, with a line that systemctl status shows.
func Ready(status string) error { return notify(daemon.SdNotifyReady + "\nSTATUS=" + line(status)) }

// Status sets the line that systemctl status shows.
func Status(status string) error { return notify("STATUS=" + line(status)) }

// Reloading says that a reload has begun; Ready says that it is finished.
func Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("cannot notify systemd: %w", err)
	}
	return notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000))
}

// Stopping says that the end has begun.
func Stopping() error { return notify(daemon.SdNotifyStopping) }

// Watchdog tells systemd that the daemon lives, twice in each WatchdogSec, until ctx ends. Before each time it calls
// alive, which must return nil soon if what matters is not stuck: an error, or no answer in time, means that nothing is
// told, and systemd restarts the daemon when WatchdogSec has passed. Every failure is given to report. Without a watchdog
// in the unit it returns at once.
//
// The calls are a datagram each and may block on a full socket, so they are for a goroutine of their own.
func Watchdog(ctx context.Context, alive func() error, report func(error)) error {
	timeout, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("cannot read the watchdog's interval: %w", err)
	}
	if timeout == 0 {
		return nil
	}
	return watch(ctx, timeout/2, alive, report, func() error { return notify(daemon.SdNotifyWatchdog) })
}

// watch is Watchdog with its interval and its kick.
func watch(ctx context.Context, interval time.Duration, alive func() error, report func(error), kick func() error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := alive(); err != nil {
			report(fmt.Errorf("cannot vouch for the daemon: %w", err))
		} else if err := kick(); err != nil {
			report(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func notify(state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("cannot notify systemd: %w", err)
	}
	return nil
}

// line keeps a status from being read as further variables.
func line(s string) string {
	for i := range len(s) {
		if s[i] == '\n' {
			return s[:i]
		}
	}
	return s
}
