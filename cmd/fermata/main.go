// Command fermata takes snapshot sets and looks after them, by asking fermatad over D-Bus. It wires and prints; it
// decides nothing.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main with its surroundings as parameters; it returns the exit status.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := context.WithCancel(context.Background())
	if signals := heeded(os.Interrupt, syscall.SIGTERM); len(signals) > 0 {
		ctx, stop = signal.NotifyContext(ctx, signals...)
	}
	defer stop()
	// The first signal cancels what runs and waits for its undo; the second ends this program, and the daemon undoes alone.
	context.AfterFunc(ctx, stop)

	a := &app{out: stdout, err: stderr}
	root := newRoot(a)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return a.finish(root.ExecuteContext(ctx))
}
