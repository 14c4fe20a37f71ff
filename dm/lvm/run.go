package lvm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

// outputMax bounds what one command may print: a report of some 10,000 LVs.
const outputMax = 16 << 20

// pipesMax is how long a child's output stays open after its death, should it have left a daemon behind.
const pipesMax = 2 * time.Second

// run executes "lvm COMMAND ARGS..." and returns its standard output. If ctx ends first, the error is a *TimeoutError
// and the child goes on: until it ends, other commands are refused with ErrLeftBehind.
func (l *LVM) run(ctx context.Context, command string, args ...string) ([]byte, error) {
	argv := slices.Concat([]string{command, "--config", buildConfig(l.config, udevRuns())}, args)
	shown := slices.Concat([]string{command}, args)
	if err := ctx.Err(); err != nil {
		return nil, &TimeoutError{Args: shown, Cause: context.Cause(ctx)}
	}
	if err := l.children.unobstructed(ctx); err != nil {
		return nil, fmt.Errorf("cannot %s: %w", commandLine(shown), err)
	}
	cmd := exec.Command(l.program, argv...)
	stdout, stderr := &limited{max: outputMax}, &limited{max: 1 << 20}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.Env = environment()
	cmd.Dir = "/"
	cmd.WaitDelay = pipesMax
	// A ^C at a terminal must not reach it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}

	done, err := l.children.start(cmd)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot run lvm: %w (is the package lvm2 installed?)", err)
		}
		return nil, fmt.Errorf("cannot run lvm: %w", err)
	}
	select {
	case err = <-done:
	case <-ctx.Done():
		select {
		case err = <-done: // both at once: what was done counts
		default:
			l.children.forsake(cmd, shown)
			return nil, &TimeoutError{Args: shown, Pid: cmd.Process.Pid, Running: true, Cause: context.Cause(ctx)}
		}
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return nil, &Error{Args: shown, ExitCode: exit.ExitCode(), Stderr: stderr.kept.String()}
	case err != nil:
		return nil, fmt.Errorf("cannot run lvm %s: %w", command, err)
	case stdout.over:
		return nil, fmt.Errorf("cannot read the output of lvm %s: it is longer than %d MiB", command, outputMax>>20)
	}
	return stdout.kept.Bytes(), nil
}

// environment of lvm: its messages in English, nothing of ours that could change what it does, except where its
// configuration stands.
func environment() []string {
	env := []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LVM_SUPPRESS_FD_WARNINGS=1"}
	if dir := os.Getenv("LVM_SYSTEM_DIR"); dir != "" {
		env = append(env, "LVM_SYSTEM_DIR="+dir)
	}
	return env
}

// limited keeps the first max bytes and swallows the rest, so that the child never blocks on a full pipe. The buffer is
// not embedded: io.Copy would find its ReadFrom and go round Write.
type limited struct {
	kept bytes.Buffer
	max  int
	over bool
}

func (w *limited) Write(b []byte) (int, error) {
	keep := b
	if room := w.max - w.kept.Len(); room < len(b) {
		w.over, keep = true, b[:room]
	}
	w.kept.Write(keep)
	return len(b), nil
}
