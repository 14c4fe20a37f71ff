// Package journald is the recipe for systemd-journald, version 245 and newer.
//
// It holds nothing, on purpose. journald writes a message as it receives it into a
// mapping of its file, which the filesystem freeze brings to disk, and readers
// of the journal's files stop where the entries end (systemd.io/JOURNAL_FILE_FORMAT).
// While its filesystem is frozen journald waits, and so do in the end those who
// log; no message is lost. To move the journal to /run and back takes longer than
// most freeze windows, and a death in between would leave it there.
//
// So prepare asks journald to write out what it has (as journalctl --sync does),
// and, with Options.Rotate, to begin new files (--rotate): then all files but the
// youngest are marked as complete, and journalctl --verify finds them so. thaw
// proves that it is the same journald still, by the connection of prepare.
package journald

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

// Options say which journal, and how.
type Options struct {
	// Namespace is a journal namespace (systemd-journald.service(8)); empty: the default.
	Namespace string
	// Rotate begins new files in prepare.
	Rotate bool

	root string // of the paths, in tests
}

// writer is the recipe with its connection.
type writer struct {
	options Options
	conn    *conn
	frozen  bool
}

// New returns the recipe. It fails if the namespace cannot be one.
func New(o Options) (recipe.Recipe, error) {
	if strings.Contains(o.Namespace, "/") || strings.HasPrefix(o.Namespace, ".") {
		return nil, fmt.Errorf("%q is no name of a journal namespace", o.Namespace)
	}
	return &writer{options: o}, nil
}

// socket is where journald answers.
func (o Options) socket() string {
	folder := "journal"
	if o.Namespace != "" {
		folder += "." + o.Namespace
	}
	return filepath.Join(o.root, "/run/systemd", folder, "io.systemd.journal")
}

// folder is where journald keeps its files, if it does not keep them in memory.
func (o Options) folder() (string, error) {
	id, err := os.ReadFile(filepath.Join(o.root, "/etc/machine-id"))
	if err != nil {
		return "", err
	}
	name := strings.TrimSpace(string(id))
	if o.Namespace != "" {
		name += "." + o.Namespace
	}
	return filepath.EvalSymlinks(filepath.Join(o.root, "/var/log/journal", name))
}

func (w *writer) Prepare(ctx context.Context, r hooks.Request) (map[string]any, error) {
	folder, err := w.options.folder()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, recipe.Inactive(fmt.Errorf("the journal is kept in memory: %w", err))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot find the journal: %w", err)
	}
	named, err := recipe.NamesVolumes(r)
	if err != nil {
		return nil, err
	}
	data := map[string]any{"directory": folder, "holds": "nothing", "rotated": w.options.Rotate}
	if named {
		err = recipe.CheckPlaces([]recipe.Place{{What: "journal", Path: folder}}, r.Volumes)
	} else {
		data["warnings"] = []string{recipe.Unchecked}
	}
	if err != nil {
		return nil, err
	}
	if w.conn, err = dial(ctx, w.options.socket()); err != nil {
		return nil, err
	}
	if w.options.Rotate {
		if err := w.conn.call(ctx, "io.systemd.Journal.Rotate"); err != nil {
			return nil, fmt.Errorf("cannot rotate the journal: %w", err)
		}
	}
	if err := w.conn.call(ctx, "io.systemd.Journal.Synchronize"); err != nil {
		return nil, fmt.Errorf("cannot write the journal out: %w", err)
	}
	return data, nil
}

// Freeze has nothing to do: see the package comment.
func (w *writer) Freeze(context.Context, hooks.Request) (map[string]any, error) {
	if w.conn == nil {
		return nil, errors.New("not prepared")
	}
	w.frozen = true
	return nil, nil
}

func (w *writer) Thaw(ctx context.Context, _ hooks.Request) (map[string]any, error) {
	if !w.frozen {
		return nil, w.Close()
	}
	err := w.conn.call(ctx, "org.varlink.service.GetInfo")
	if refused := refusal(""); errors.As(err, &refused) {
		err = nil // systemd 252 does not know the method: an answer all the same
	}
	if err != nil {
		err = fmt.Errorf("%w: the connection to journald is lost: %w", hooks.ErrHoldLost, err)
	}
	return nil, errors.Join(err, w.Close())
}

func (w *writer) Abort(context.Context, hooks.Request) error { return w.Close() }

func (w *writer) Post(context.Context, hooks.Request) (map[string]any, error) { return nil, nil }

func (w *writer) Close() error {
	w.frozen = false
	if w.conn == nil {
		return nil
	}
	err := w.conn.Close()
	w.conn = nil
	return err
}

// explained says what an error of the connection means here.
func explained(socket string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("cannot connect to journald: %w; only root may, so give the writer no user", err)
	}
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot connect to journald: %w; does systemd-journald run, and is it 245 or newer?", err)
	}
	return fmt.Errorf("cannot connect to journald at %s: %w", socket, err)
}

var _ recipe.Recipe = (*writer)(nil)
