package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/fermata-project/fermata/daemon/api"
)

// Exit statuses beside those of the classes of errors (api.Class.ExitStatus).
const (
	exitUsage    = 2
	exitDegraded = 3 // made, with less consistency than asked for
)

// usageError is a command line that means nothing.
type usageError struct {
	err     error
	command string
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// cannot says what could not be done, unless the error says so itself.
func cannot(what string, err error) error {
	var u *usageError
	if err == nil || errors.As(err, &u) || errors.Is(err, errQuiet) || strings.HasPrefix(err.Error(), "cannot ") {
		return err
	}
	return fmt.Errorf("cannot %s: %w", what, err)
}

// errQuiet ends a command that has printed all that there is to say; the status is in app.status.
var errQuiet = errors.New("nothing more to say")

// finish prints an error and gives the exit status.
func (a *app) finish(err error) int {
	if err == nil || errors.Is(err, errQuiet) {
		return a.status
	}
	class, status := api.Of(err), api.Of(err).ExitStatus()
	text := err.Error()
	var u *usageError
	if errors.As(err, &u) {
		class, status = api.Invalid, exitUsage
		text = fmt.Sprintf("%s (see %s --help)", text, u.command)
	}
	if a.json {
		// Encoding two strings cannot fail.
		line, _ := json.Marshal(struct {
			Error string    `json:"error"`
			Class api.Class `json:"class"`
		}{text, class})
		fmt.Fprintf(a.err, "%s\n", line)
		return status
	}
	for line := range strings.Lines(text) { // joined errors have a line each
		fmt.Fprintf(a.err, "fermata: %s\n", printable(strings.TrimSuffix(line, "\n")))
	}
	return status
}
