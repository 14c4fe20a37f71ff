// Command fermata-generator makes systemd's timers of the policies that have a schedule. systemd runs it at boot and at each
// daemon-reload (systemd.generator(7)), so that the configuration is the only place where a schedule stands.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/systemd/timers"
)

func main() {
	if len(os.Args) != 2 && len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: fermata-generator NORMAL-DIR [EARLY-DIR LATE-DIR]: systemd runs it")
		os.Exit(2)
	}
	if err := generate(config.Dir, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "fermata-generator:", err)
		os.Exit(1)
	}
}

// generate makes the units in dir. A policy that is broken has no timer, and the others have theirs.
func generate(from, dir string) error {
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	c, err := config.Load(from)
	if err != nil {
		return fmt.Errorf("cannot make the timers of the policies: %w", err)
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.Policies)) {
		if err := write(timers.Generated(c.Policies[name], dir)); err != nil {
			errs = append(errs, fmt.Errorf("cannot make the timer of policy %s: %w", name, err))
		}
	}
	if faults := c.Problems.Errors(); len(faults) > 0 {
		errs = append(errs, faults)
	}
	return errors.Join(errs...)
}

func write(files, links map[string]string) error {
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	for name, target := range links {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(target, name); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}
