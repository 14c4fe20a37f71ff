package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// progressLine shows the phase in one line of a terminal. Anywhere else --progress shows a line for each phase; without it nothing is
// shown, so that cron has nothing to send, and progress is nil.
func (a *app) progressLine() (progress func(string), finish func()) {
	switch {
	case isTerminal(a.err):
		const erase = "\r\x1b[K"
		return func(phase string) { fmt.Fprintf(a.err, "%s%s …", erase, bar(printable(phase))) }, func() { fmt.Fprint(a.err, erase) }
	case a.progress:
		return func(phase string) { fmt.Fprintln(a.err, printable(phase)) }, func() {}
	default:
		return nil, func() {}
	}
}

// bar draws the share of a phase that ends with one: "clone 43%".
func bar(phase string) string {
	words := strings.Fields(phase)
	if len(words) == 0 {
		return phase
	}
	percent, err := strconv.Atoi(strings.TrimSuffix(words[len(words)-1], "%"))
	if err != nil || !strings.HasSuffix(phase, "%") || percent < 0 || percent > 100 {
		return phase
	}
	const width = 40
	done := percent * width / 100
	return fmt.Sprintf("[%s%s] %s", strings.Repeat("#", done), strings.Repeat(".", width-done), phase)
}

// isTerminal reports whether w is a terminal that can erase a line: not one under TERM=dumb.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
