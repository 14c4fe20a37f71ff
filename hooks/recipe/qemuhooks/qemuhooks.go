// Package qemuhooks is the recipe that runs the scripts which administrators have written for the QEMU guest agent, in
// /etc/qemu/fsfreeze-hook.d, unchanged: each with the argument "freeze" and later "thaw".
//
// It follows the script of the guest agent that runs them (scripts/qemu-guest-agent/fsfreeze-hook in QEMU's source) in what
// it runs and in which order, for thaw in the same order as for freeze. Unlike that script it heeds exit statuses and time
// limits: there a script that fails changes nothing, and one that hangs keeps the guest from being frozen for ever.
//
// Nothing of a script lives between its freeze and its thaw, so that the hold is believed, not seen.
package qemuhooks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fermata-project/fermata/config/ownership"
	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

// DefaultDirectory is where Debian and others have the scripts.
const DefaultDirectory = "/etc/qemu/fsfreeze-hook.d"

// closeLimit bounds the thaw of what is left when the session ends without one.
const closeLimit = time.Minute

// Hooks are the scripts of one directory.
type Hooks struct {
	directory string
	scripts   []string // names, in order
	begun     []string // those whose freeze was begun, and that were not thawed
}

// New is the recipe for the scripts of a directory, an absolute path; empty means DefaultDirectory.
func New(directory string) (*Hooks, error) {
	if directory == "" {
		directory = DefaultDirectory
	}
	if !filepath.IsAbs(directory) {
		return nil, fmt.Errorf("directory %q is not an absolute path", directory)
	}
	return &Hooks{directory: directory}, nil
}

var _ recipe.Recipe = (*Hooks)(nil)

// Prepare finds the scripts. A directory without any is refused: nothing would be held.
func (h *Hooks) Prepare(context.Context, hooks.Request) (map[string]any, error) {
	entries, err := os.ReadDir(h.directory) // sorted by name
	if err != nil {
		return nil, fmt.Errorf("cannot find the scripts: %w", err)
	}
	if os.Geteuid() == 0 {
		if err := ownership.Directory(h.directory); err != nil {
			return nil, err
		}
	}
	h.scripts = nil
	for _, e := range entries {
		ok, err := h.runs(e.Name())
		if err != nil {
			return nil, err
		}
		if ok {
			h.scripts = append(h.scripts, e.Name())
		}
	}
	if len(h.scripts) == 0 {
		return nil, fmt.Errorf("no script in %s can be executed: remove this writer, or see to their modes", h.directory)
	}
	return map[string]any{"directory": h.directory, "scripts": h.scripts}, nil
}

// runs tells whether a name in the directory is that of a script, which must be trusted.
func (h *Hooks) runs(name string) (bool, error) {
	path := filepath.Join(h.directory, name)
	if ignored(name) {
		return false, nil
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist): // a link to nothing
		return false, nil
	case err != nil:
		return false, fmt.Errorf("cannot look at script %s: %w", path, err)
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		return false, nil
	}
	return true, recipe.Trusted(path)
}

// leftovers are endings of what editors and package managers leave behind.
var leftovers = []string{"~", ".bak", ".orig", ".sample", ".rpmnew", ".rpmorig", ".rpmsave", ".dpkg-old", ".dpkg-new",
	".dpkg-tmp", ".dpkg-dist", ".dpkg-bak", ".dpkg-backup", ".dpkg-remove"}

// ignored tells whether the guest agent would not look at a file of this name.
func ignored(name string) bool {
	for _, end := range leftovers {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return strings.HasPrefix(name, ".")
}

// Freeze runs the scripts up to the first that fails.
func (h *Hooks) Freeze(ctx context.Context, _ hooks.Request) (map[string]any, error) {
	if len(h.scripts) == 0 {
		return nil, errors.New("not prepared")
	}
	for _, name := range h.scripts {
		h.begun = append(h.begun, name) // whatever comes of it: it may have done half
		if err := h.run(ctx, name, "freeze"); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// Thaw runs the scripts whose freeze was begun, also those after one that fails. One that fails is tried again at the end.
func (h *Hooks) Thaw(ctx context.Context, _ hooks.Request) (map[string]any, error) {
	if err := h.thaw(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", hooks.ErrHoldLost, err)
	}
	return nil, nil
}

func (h *Hooks) thaw(ctx context.Context) error {
	var errs []error
	var left []string
	for i, name := range h.begun {
		if err := h.thawOne(ctx, name, len(h.begun)-i); err != nil {
			errs, left = append(errs, err), append(left, name)
		}
	}
	h.begun = left
	return errors.Join(errs...)
}

// thawOne thaws one script of so many that are left, and gives it its share of the time: none must keep the next from it.
func (h *Hooks) thawOne(ctx context.Context, name string, left int) error {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/time.Duration(left))
		defer cancel()
	}
	return h.run(ctx, name, "thaw")
}

func (h *Hooks) run(ctx context.Context, name, phase string) error {
	_, err := recipe.Run(ctx, filepath.Join(h.directory, name), phase)
	if err != nil {
		return fmt.Errorf("script %s %s: %w", name, phase, err)
	}
	return nil
}

// Abort thaws what is left.
func (h *Hooks) Abort(ctx context.Context, _ hooks.Request) error { return h.thaw(ctx) }

// Post does nothing: the guest agent tells its scripts no outcome.
func (h *Hooks) Post(context.Context, hooks.Request) (map[string]any, error) { return nil, nil }

// Close thaws what is left, when the daemon has died for instance.
func (h *Hooks) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	return h.thaw(ctx)
}
