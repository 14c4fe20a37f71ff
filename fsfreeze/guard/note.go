package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Notes is where the guard says what it had to release when nobody was there to hear it: one file a set. The daemon
// reads it when it starts, so that it does not thaw again what is no longer its own.
const Notes = "/run/fermata/guard"

func notePath(dir, set string) string { return filepath.Join(dir, filepath.Base(set)+".json") }

// WriteNote leaves a report behind. Nothing is frozen any more.
func WriteNote(dir, set string, r Report) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("internal error: cannot encode a report: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot leave a note: %w", err)
	}
	tmp := notePath(dir, set) + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("cannot leave a note: %w", err)
	}
	return os.Rename(tmp, notePath(dir, set))
}

// ReadNote reads what the guard released of a set; found is false if it left no note.
func ReadNote(dir, set string) (r Report, found bool, err error) {
	b, err := os.ReadFile(notePath(dir, set))
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return r, false, fmt.Errorf("cannot read the guard's note: %w", err)
	}
	return r, true, nil
}

// RemoveNote forgets a note, once it has been acted upon.
func RemoveNote(dir, set string) error {
	if err := os.Remove(notePath(dir, set)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Guarding asks the guard whether it has a hold of a set. False: it never had one, or its note is written. Through a socket
// that systemd holds, the question starts a guard that is dead, and waits for it for limit at most.
func Guarding(socket, set string, limit time.Duration) (bool, error) {
	c, err := net.DialTimeout("unixpacket", socket, limit)
	if err != nil {
		return false, fmt.Errorf("cannot reach the guard: %w (is fermata-guard.socket started?)", err)
	}
	defer c.Close()
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return false, fmt.Errorf("internal error: %T is no socket", c)
	}
	var r answer
	err = errors.Join(conn.SetDeadline(time.Now().Add(limit)), send(conn, plan{Set: set, Ask: true}))
	if err == nil {
		_, err = receive(conn, &r, 0)
	}
	if err == nil && !r.Asked {
		err = errors.New("it did not understand: " + r.Error)
	}
	if err != nil {
		return false, fmt.Errorf("cannot ask the guard: %w", err)
	}
	return r.Armed, nil
}

// KeepNotes forgets all notes but those of the given sets: what they explain is gone.
func KeepNotes(dir string, sets []string) error {
	found, err := filepath.Glob(filepath.Join(dir, "*.json"))
	errs := []error{err}
	for _, name := range found {
		if set := strings.TrimSuffix(filepath.Base(name), ".json"); !slices.Contains(sets, set) {
			errs = append(errs, RemoveNote(dir, set))
		}
	}
	return errors.Join(errs...)
}

// Ping reports whether the guard can be reached, or started by connecting.
func Ping(socket string) error {
	c, err := net.DialTimeout("unixpacket", socket, time.Second)
	if err != nil {
		return fmt.Errorf("cannot reach the guard: %w (is fermata-guard.socket started?)", err)
	}
	return c.Close()
}
