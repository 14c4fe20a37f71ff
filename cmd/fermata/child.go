package main

import (
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// passedOn are the signals that a command gets which this program gets while it runs.
var passedOn = []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGCONT}

// heeded leaves out the signals that are ignored, which nohup and a shell's & ask for: a signal that is caught would be ignored no
// more by a command either.
func heeded(signals ...os.Signal) []os.Signal { return slices.DeleteFunc(signals, signal.Ignored) }

// hear begins to collect the signals that are to be passed on.
func hear() chan os.Signal {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, heeded(slices.Clone(passedOn)...)...)
	return signals
}

// runWith runs a command to its end, and returns its exit status, as a shell would. The command gets what signals bring. If this
// program dies, it gets SIGTERM.
func runWith(argv, env []string, signals <-chan os.Signal) (status int, failure error) {
	runtime.LockOSThread() // whose end is what Pdeathsig waits for
	defer runtime.UnlockOSThread()
	c := exec.Command(argv[0], argv[1:]...)
	c.Env, c.Stdin, c.Stdout, c.Stderr = env, os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := c.Start(); err != nil {
		return 0, err
	}
	ended := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				if !fromTerminal(s) {
					_ = c.Process.Signal(s) // unless it has just ended
				}
			case <-ended:
				return
			}
		}
	}()
	err := c.Wait()
	close(ended)
	return exitStatus(err)
}

// fromTerminal reports whether a signal is one that a terminal sends to all that run in its foreground, the command too.
func fromTerminal(s os.Signal) bool {
	return (s == syscall.SIGINT || s == syscall.SIGQUIT || s == syscall.SIGWINCH) && inForeground()
}

// inForeground reports whether this process is in the foreground of its terminal. It may have a terminal though its input is a file.
func inForeground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
