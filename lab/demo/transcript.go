package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// transcript prints what is done, and counts what was proven.
type transcript struct {
	out    io.Writer
	checks int
}

// commandLimit is for one command.
const commandLimit = 2 * time.Minute

func (t *transcript) title(n int, text string) { fmt.Fprintf(t.out, "\n# %d. %s\n\n", n, text) }

// say prints a remark.
func (t *transcript) say(format string, args ...any) {
	fmt.Fprintf(t.out, "# %s\n", strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "\n# "))
}

// check prints what has been proven, or returns what has not.
func (t *transcript) check(ok bool, format string, args ...any) error {
	if !ok {
		return fmt.Errorf("not true: "+format, args...)
	}
	t.checks++
	fmt.Fprintf(t.out, "✓ "+format+"\n", args...)
	return nil
}

// run prints a command, runs exactly what it printed, and prints the output.
func (t *transcript) run(ctx context.Context, script string) error {
	fmt.Fprintf(t.out, "$ %s\n", strings.ReplaceAll(script, "\n", "\n> "))
	var tail tail
	if err := shell(ctx, script, io.MultiWriter(t.out, &tail)).Run(); err != nil {
		return fmt.Errorf("%s: %w", first(script), err)
	}
	if !tail.newline() {
		fmt.Fprintln(t.out)
	}
	return nil
}

// output runs a command without a word, and returns what it printed.
func (t *transcript) output(ctx context.Context, script string) (string, error) {
	var out bytes.Buffer
	c := shell(ctx, script, &out)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s%s", first(script), err, out.String(), stderr.String())
	}
	return out.String(), nil
}

func shell(ctx context.Context, script string, out io.Writer) *exec.Cmd {
	c := exec.CommandContext(ctx, "timeout", fmt.Sprint(int(commandLimit.Seconds())), "bash", "-euo", "pipefail", "-c", script)
	c.Stdout, c.Stderr = out, out
	c.WaitDelay = 5 * time.Second // a child that stays may keep our pipe open
	return c
}

// explain prints what the services had to say; for a demo that failed.
func (t *transcript) explain(ctx context.Context) {
	out, err := t.output(ctx, "systemctl --failed --no-legend --plain; journalctl --no-pager -q -o short-monotonic -n 60 -p info")
	if err != nil {
		out = err.Error()
	}
	fmt.Fprintf(t.out, "\n# The journal:\n%s\n", out)
}

// tail remembers the last byte of an output.
type tail struct{ last byte }

func (t *tail) Write(b []byte) (int, error) {
	if len(b) > 0 {
		t.last = b[len(b)-1]
	}
	return len(b), nil
}

func (t *tail) newline() bool { return t.last == 0 || t.last == '\n' }

func first(script string) string {
	line, _, _ := strings.Cut(script, "\n")
	return line
}
