package inside

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// drainTime is how long the agent waits for more output once the command has
// ended: a daemon that it left behind may hold its streams open for ever.
const drainTime = time.Second

// Agent runs the plan's command and leaves its status for the lab. It fails only
// if it cannot leave one.
func Agent() error {
	status := Status{}
	plan, err := readPlan(SharedDir)
	if err == nil {
		err = mountShares(plan.Shares)
	}
	if err == nil {
		status.Code, err = run(plan)
	}
	if err != nil {
		status = Status{Error: err.Error()}
	}
	return writeStatus(SharedDir, status)
}

// mountShares makes directories of the host visible at their own path. They are
// mounted here, not by the init, so that nothing that cleans /tmp when the guest
// starts can reach them.
func mountShares(shares []Share) error {
	m := &mounter{}
	for _, s := range shares {
		flags := uintptr(unix.MS_RDONLY)
		if s.Writable {
			flags = 0
		}
		m.mkdir(s.Path)
		m.mount("none", s.Path, "hostfs", flags, s.Path)
	}
	return m.err
}

// run runs the command and gives its exit status.
func run(p Plan) (int, error) {
	cmd := exec.Command(p.Command[0], p.Command[1:]...)
	cmd.Dir = p.Dir
	cmd.Env = append(baseEnv(os.Getenv("TERM")), p.Env...)
	if p.Shell {
		return runOnTerminal(cmd, p.Rows, p.Cols)
	}
	return runPiped(cmd)
}

// baseEnv is the environment of every command, whatever init started the agent.
func baseEnv(term string) []string {
	return []string{"PATH=" + searchPath, "HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/bash",
		"LANG=C.UTF-8", "TERM=" + term}
}

// runPiped gives the command pipes, not the shared files themselves, for its
// output: a script that writes to /dev/stderr would cut a file to nothing.
func runPiped(cmd *exec.Cmd) (int, error) {
	out, err := os.OpenFile(filepath.Join(SharedDir, StdoutFile), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return 0, fmt.Errorf("cannot open the output: %w", err)
	}
	defer out.Close()
	errs, err := os.OpenFile(filepath.Join(SharedDir, StderrFile), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return 0, fmt.Errorf("cannot open the output: %w", err)
	}
	defer errs.Close()

	// An io.Writer that is not an *os.File makes os/exec use a pipe.
	cmd.Stdout, cmd.Stderr = writer{out}, writer{errs}
	cmd.WaitDelay = drainTime
	return exitCode(cmd.Run())
}

type writer struct{ io.Writer }

// runOnTerminal gives the command the guest's second console, which the lab
// connects to its own terminal.
func runOnTerminal(cmd *exec.Cmd, rows, cols uint16) (int, error) {
	tty, err := os.OpenFile("/dev/tty1", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return 0, fmt.Errorf("cannot open the terminal: %w", err)
	}
	defer tty.Close()
	if rows > 0 && cols > 0 {
		if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}); err != nil {
			return 0, fmt.Errorf("cannot set the terminal's size: %w", err)
		}
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	return exitCode(cmd.Run())
}

// exitCode gives the exit status of a command that has run, as a shell would. A
// command that could not be started is an error.
func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return 0, nil
	case errors.As(err, &exit):
		status := exit.Sys().(syscall.WaitStatus)
		if status.Signaled() {
			return 128 + int(status.Signal()), nil
		}
		return status.ExitStatus(), nil
	}
	return 0, err
}
