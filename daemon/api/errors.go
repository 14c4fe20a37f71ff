package api

import (
	"errors"
	"fmt"
)

// Class says what kind of failure a request met, and so what its requester can do. It travels over the bus as the last
// part of the D-Bus error's name, and decides the exit status of the CLI.
type Class string

const (
	// Failed: the request could not be carried out.
	Failed Class = "Failed"
	// Invalid: the request itself is wrong: an unknown policy, a path that is no volume.
	Invalid Class = "Invalid"
	// NotFound: no such set, or an ambiguous prefix of one.
	NotFound Class = "NotFound"
	// Refused: a pool or a volume group has no room, or a volume's state forbids a set; nothing was touched.
	Refused Class = "Refused"
	// Broken: a hold did not last, or could not be proven: the set was deleted. A retry can help.
	Broken Class = "Broken"
	// Timeout: a writer or the freeze took longer than allowed: the set was deleted. A retry can help.
	Timeout Class = "Timeout"
	// Busy: another set is being taken and the request did not want to wait.
	Busy Class = "Busy"
	// Denied: the caller may not do this.
	Denied Class = "Denied"
	// Cancelled: the requester ended the request, or vanished.
	Cancelled Class = "Cancelled"
)

// Error is a failure with its class. Find it with errors.As; Of gives the class of any error.
type Error struct {
	Class Class
	Err   error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error of a class, formatted like fmt.Errorf.
func Errorf(c Class, format string, a ...any) error {
	return &Error{Class: c, Err: fmt.Errorf(format, a...)}
}

// Of is the class of err: that of the outermost *Error in its chain, Failed for any other error.
func Of(err error) Class {
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return Failed
}

// Retryable reports whether trying again soon can help.
func (c Class) Retryable() bool { return c == Broken || c == Timeout }

// ExitStatus of the CLI for a class.
func (c Class) ExitStatus() int {
	switch c {
	case Invalid:
		return 2
	case Broken, Timeout:
		return 4
	case Busy:
		return 75
	}
	return 1
}
