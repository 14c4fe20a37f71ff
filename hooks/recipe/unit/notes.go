package unit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Notes is where the daemon keeps notes of frozen units: on a tmpfs, for a reboot thaws them.
const Notes = "/run/fermata/units"

// releaseTime is what thawing gets when nobody waits for it.
const releaseTime = 20 * time.Second

// A note is a file by the unit's name; its text is the invocation.

func writeNote(dir string, s State) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot note that %s is to be frozen: %w", s.ID, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, s.ID), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot note that %s is to be frozen: %w", s.ID, err)
	}
	_, err = f.WriteString(s.Invocation)
	return errors.Join(err, f.Close())
}

func removeNote(dir, unit string) error {
	if err := os.Remove(filepath.Join(dir, unit)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is thawed, but the note of it cannot be removed: %w", unit, err)
	}
	return nil
}

// Release thaws the units that were frozen by somebody who is no more, and says which. Nobody may be freezing any
// meanwhile. Where no note is, nobody is asked.
func Release(ctx context.Context, dir string, dial func(context.Context) (Systemd, error)) (released []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read which units are frozen: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, releaseTime)
	defer cancel()
	s, err := dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot thaw units: %w", err)
	}
	defer s.Close()
	var errs []error
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		var did bool
		if err == nil {
			did, err = thaw(ctx, s, e.Name(), strings.TrimSpace(string(text)))
		}
		if did {
			released = append(released, e.Name())
		}
		if err == nil {
			err = removeNote(dir, e.Name())
		}
		errs = append(errs, err)
	}
	return released, errors.Join(errs...)
}
