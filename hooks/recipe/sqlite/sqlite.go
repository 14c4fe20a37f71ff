// Package sqlite is the recipe for SQLite databases.
//
// A database of SQLite recovers from a power cut at any instant, if its journal
// or write-ahead log is captured with it; they lie beside it. The hold gives more:
// no transaction is under way, so nothing has to be rolled back, and the
// application, which waits for the lock, is not caught in the kernel by the freeze.
// It is what BEGIN IMMEDIATE takes, the lock of the one that may write: others
// read on, and whoever wants to write waits for as long as its own busy timeout
// allows.
//
// The locks are taken here, byte by byte, without SQLite itself: they are part of
// the documented file format. So nothing of a database is interpreted but the
// first bytes of its header, and nothing is ever written, which is right for a
// program that root may run on somebody else's files. The reasons are in
// docs/adr/0010-sqlite-by-its-locks.md.
//
// The locks belong to open files of this process and end with it.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

// Options say which databases.
type Options struct {
	// Files are paths of databases; each must exist.
	Files []string
	// Patterns are as in path/filepath.Match; what they find and is no database
	// is left out.
	Patterns []string
	// BinDirectory has sqlite3, for verify; empty: where packages put it.
	BinDirectory string
}

const (
	// tryEvery is how often a lock is tried that somebody else has.
	tryEvery = 2 * time.Millisecond
	// hotWait is how long prepare waits for a journal to be rolled back: to look
	// at it takes several steps, between which a living writer may end.
	hotWait = 500 * time.Millisecond
	// maxDatabases bounds a hold; each takes two open files.
	maxDatabases = 256
)

// writer is the recipe with its locks.
type writer struct {
	options  Options
	prepared bool
	held     []*database
	frozen   bool
}

// New returns the recipe. It fails if no database is named.
func New(o Options) (recipe.Recipe, error) {
	if len(o.Files)+len(o.Patterns) == 0 {
		return nil, errors.New("name a database, or a pattern that finds some")
	}
	return &writer{options: o}, nil
}

// Prepare takes and releases each lock once, so that what cannot be held is said
// before anything is frozen. A lock that somebody else has may be free later.
func (w *writer) Prepare(ctx context.Context, r hooks.Request) (map[string]any, error) {
	named, err := recipe.NamesVolumes(r)
	if err != nil {
		return nil, err
	}
	paths, err := find(w.options)
	if err != nil {
		return nil, err
	}
	data := map[string]any{"databases": len(paths), "paths": paths}
	if named {
		err = checkPlaces(paths, r.Volumes)
	} else {
		data["warnings"] = []string{recipe.Unchecked}
	}
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		if err := probe(ctx, path); err != nil {
			return nil, err
		}
	}
	w.prepared = true
	return data, nil
}

// checkPlaces is nil if all databases are in the set, and with them what SQLite
// puts beside them. It goes by their folders, for on some filesystems (overlay) a
// file has another device than its folder.
func checkPlaces(paths, volumes []string) error {
	var folders []recipe.Place
	for _, path := range paths {
		folder := filepath.Dir(path)
		folders = append(folders, recipe.Place{What: "database " + filepath.Base(path) + " in", Path: folder})
		at, err := mountOf(path)
		if err != nil {
			return err
		}
		above, err := mountOf(folder)
		if err != nil {
			return err
		}
		if at != above {
			return fmt.Errorf("%s is a mount of its own: name the file that is mounted there", path)
		}
	}
	return recipe.CheckPlaces(folders, volumes)
}

// mountOf is the number of the mount that a path leads into.
func mountOf(path string) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st); err != nil {
		return 0, fmt.Errorf("cannot look at %s: %w", path, err)
	}
	return st.Mnt_id, nil
}

// probe is nil if a database can be held, or could if nobody else had it locked.
func probe(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, hotWait)
	defer cancel()
	for {
		d, err := try(path)
		if err == nil {
			return d.release()
		}
		if errors.Is(err, errBusy) {
			return nil
		}
		if !errors.Is(err, errHot) || !pause(ctx, tryEvery) {
			return cannotHold(path, err)
		}
	}
}

// Freeze holds the databases that there are now, in the order of their paths, so
// that two of these do not wait for each other.
func (w *writer) Freeze(ctx context.Context, _ hooks.Request) (map[string]any, error) {
	if !w.prepared {
		return nil, errors.New("not prepared")
	}
	paths, err := find(w.options)
	if err != nil {
		return nil, err
	}
	var databases []any
	for _, path := range paths {
		d, err := hold(ctx, path)
		if err != nil {
			return nil, errors.Join(err, w.release())
		}
		w.held = append(w.held, d)
		databases = append(databases, d.data())
	}
	w.frozen = true
	return map[string]any{"databases": databases}, nil
}

// hold tries until it has the lock or ctx ends. Between two tries it has none, so
// that a writer that has begun can end.
func hold(ctx context.Context, path string) (*database, error) {
	for {
		d, err := try(path)
		if err == nil {
			return d, nil
		}
		if !errors.Is(err, errBusy) && !errors.Is(err, errHot) || !pause(ctx, tryEvery) {
			return nil, cannotHold(path, err)
		}
	}
}

// cannotHold is the refusal; the error names the file already where the kernel refused.
func cannotHold(path string, err error) error {
	if errors.Is(err, errNotSQLite) || errors.Is(err, errHot) {
		return fmt.Errorf("%s %w", path, err)
	}
	return fmt.Errorf("cannot hold %s: %w", path, err)
}

func (w *writer) Thaw(context.Context, hooks.Request) (map[string]any, error) {
	var errs []error
	if w.frozen {
		for _, d := range w.held {
			errs = append(errs, d.proven())
		}
	}
	w.frozen = false
	lost := errors.Join(errs...)
	undone := w.release()
	if lost != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", hooks.ErrHoldLost, lost), undone)
	}
	return nil, undone
}

func (w *writer) Abort(context.Context, hooks.Request) error { return w.release() }

func (w *writer) Post(context.Context, hooks.Request) (map[string]any, error) { return nil, nil }

func (w *writer) Close() error { return w.release() }

// release lets go of everything, in reverse.
func (w *writer) release() error {
	var errs []error
	for i := len(w.held) - 1; i >= 0; i-- {
		errs = append(errs, w.held[i].release())
	}
	w.held, w.frozen = nil, false
	return errors.Join(errs...)
}

// pause waits, and is false if ctx ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

var _ recipe.Recipe = (*writer)(nil)
