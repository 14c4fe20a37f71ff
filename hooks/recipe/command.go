package recipe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/fermata-project/fermata/config/ownership"
)

const (
	// maxOutput is how much of each stream of a program is kept, in bytes.
	maxOutput = 64 << 10
	// afterExit is how long somebody whom a program has started may hold its output open.
	afterExit = 100 * time.Millisecond
	// afterKill is how long a killed program may take to go.
	afterKill = time.Second
)

// Run runs a program to its end, or to that of ctx, when it and its process group are killed. The output is what it said on
// standard output; an error has its last words. Programs get messages in English: LC_ALL=C.
func Run(ctx context.Context, path string, args ...string) (output string, err error) {
	var stdout, stderr head
	c := exec.Command(path, args...)
	c.Env = append(os.Environ(), "LC_ALL=C")
	c.Stdout, c.Stderr = &stdout, &stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a signal to us is not one to it: it may be letting go
	c.WaitDelay = afterExit
	if err := context.Cause(ctx); err != nil {
		return "", fmt.Errorf("cannot run %s: %w", path, err)
	}
	if err := c.Start(); err != nil {
		return "", err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // if it has just gone, so has its group
		select {
		case <-ended:
			return "", fmt.Errorf("%s did not end in time: %w%s", path, context.Cause(ctx), lastWords(stderr.String(), stdout.String()))
		case <-time.After(afterKill): // it waits in the kernel, for a frozen filesystem most likely
			return "", fmt.Errorf("%s did not end in time, nor when it was killed: %w", path, context.Cause(ctx))
		}
	}
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return stdout.String(), fmt.Errorf("%s: %w%s", path, err, lastWords(stderr.String(), stdout.String()))
	}
	return stdout.String(), nil
}

// Trusted is nil if the program at an absolute path may be run: as root only what root alone can change.
func Trusted(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return ownership.File(path)
}

// lastWords are what a program said last, in brackets; empty if it said nothing.
func lastWords(streams ...string) string {
	const most = 1 << 10
	for _, s := range streams {
		if s = strings.TrimSpace(s); s != "" {
			return fmt.Sprintf(" (it said: %s)", strings.ToValidUTF8(s[max(0, len(s)-most):], ""))
		}
	}
	return ""
}

// head keeps the beginning of what is written to it.
type head struct{ kept bytes.Buffer }

func (h *head) Write(p []byte) (int, error) {
	h.kept.Write(p[:min(len(p), maxOutput-h.kept.Len())])
	return len(p), nil
}

func (h *head) String() string { return h.kept.String() }
