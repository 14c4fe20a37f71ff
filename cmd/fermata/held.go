package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// heldCommand is a command that runs while filesystems are frozen.
type heldCommand struct {
	argv     []string
	out, err *kept

	status  int
	failure error // it could not be run
}

// afterCommand is how long somebody whom the command has started may go on holding its output open.
const afterCommand = time.Second

// run runs the command to its end, which ctx asks it for by SIGTERM, and reports whether it succeeded.
func (h *heldCommand) run(ctx context.Context) bool {
	c := exec.Command(h.argv[0], h.argv[1:]...)
	c.WaitDelay = afterCommand
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, h.out.writer(), h.err.writer()
	err := c.Start()
	if err == nil {
		stop := context.AfterFunc(ctx, func() { _ = c.Process.Signal(syscall.SIGTERM) }) // unless it has just ended
		err = c.Wait()
		stop()
	}
	h.status, h.failure = exitStatus(err)
	return h.status == 0 && h.failure == nil
}

func signalOf(exit *exec.ExitError) syscall.Signal { return exit.Sys().(syscall.WaitStatus).Signal() }

// maxKept is how much of a command's output is kept, in bytes.
const maxKept = 1 << 20

// kept is where a command's output goes while filesystems are frozen: to a terminal at once, and into memory if it is for
// anything else, for behind a file, and behind a pipe, may be what is frozen.
type kept struct {
	to      io.Writer
	text    bytes.Buffer
	dropped int
}

func keep(to io.Writer) *kept { return &kept{to: to} }

func (k *kept) writer() io.Writer {
	if isTerminal(k.to) {
		return k.to
	}
	return k
}

// Write keeps what there is room for.
func (k *kept) Write(p []byte) (int, error) {
	n := min(len(p), maxKept-k.text.Len())
	k.text.Write(p[:n])
	k.dropped += len(p) - n
	return len(p), nil
}

// flush writes what was kept, when nothing is frozen any more.
func (k *kept) flush() {
	_, _ = k.text.WriteTo(k.to) // whoever closed it does not want it
	if k.dropped > 0 {
		fmt.Fprintf(k.to, "fermata: %d bytes more were not kept\n", k.dropped)
	}
}
