package main

import (
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
)

// passedOn are the signals that a command gets which this program gets while it runs.
var passedOn = []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGCONT}

// runWith runs a command to its end, and returns its exit status, as a shell would. If this program dies, the command gets SIGTERM.
func runWith(argv, env []string) (status int, failure error) {
	runtime.LockOSThread() // whose end is what Pdeathsig waits for
	defer runtime.UnlockOSThread()
	c := exec.Command(argv[0], argv[1:]...)
	c.Env, c.Stdin, c.Stdout, c.Stderr = env, os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, passedOn...)
	defer signal.Stop(signals)
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
	return (s == syscall.SIGINT || s == syscall.SIGQUIT || s == syscall.SIGWINCH) && isTerminal(os.Stdin)
}
