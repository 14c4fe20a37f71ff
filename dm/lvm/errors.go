package lvm

import (
	"fmt"
	"strings"
)

// Error is an LVM command that failed. Its exit codes say little (5 is any failure), and its messages are for people:
// to learn what is the case, read a report.
type Error struct {
	Args     []string // command and arguments, without the configuration that every command gets
	ExitCode int      // -1 if a signal ended it
	Stderr   string
}

func (e *Error) Error() string {
	reason := lastMessage(e.Stderr)
	if reason == "" {
		reason = fmt.Sprintf("exit status %d", e.ExitCode)
	}
	return "cannot " + strings.Join(e.Args, " ") + ": " + reason
}

// TimeoutError is an LVM command whose caller's time was over. The command itself was not interrupted: after Wait, a
// report tells what it has done.
type TimeoutError struct {
	Args    []string
	Pid     int   // of the child
	Running bool  // false if it was not even started
	Cause   error // why the context ended
}

func (e *TimeoutError) Error() string {
	if !e.Running {
		return fmt.Sprintf("cannot %s: not started: %v", commandLine(e.Args), e.Cause)
	}
	return fmt.Sprintf("cannot wait for %s (process %d, which goes on): %v", commandLine(e.Args), e.Pid, e.Cause)
}

// Unwrap gives the context's error.
func (e *TimeoutError) Unwrap() error { return e.Cause }

// Is: a command that goes on is ErrLeftBehind as well.
func (e *TimeoutError) Is(target error) bool { return e.Running && target == ErrLeftBehind }

// commandLine shows a command for people: a report's options are of no use to them.
func commandLine(args []string) string {
	line := strings.Join(args, " ")
	const limit = 80
	if len(line) > limit {
		line = line[:limit] + "…"
	}
	return line
}

// lastMessage is the last line that says why a command failed.
func lastMessage(stderr string) string {
	message := ""
	for line := range strings.Lines(stderr) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "WARNING:") || strings.HasPrefix(line, "File descriptor ") {
			continue
		}
		message = line
	}
	const limit = 300
	if len(message) > limit {
		message = message[:limit] + "…"
	}
	return message
}
