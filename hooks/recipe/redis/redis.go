// Package redis is the recipe for Redis 6.2 and newer, and for Valkey.
//
// # With an append-only file
//
// A server with appendonly on says OK to a write before the snapshot can be sure
// to have it: with appendfsync everysec the write waits in the server's memory
// for up to two seconds while an fsync is under way (aof.c,
// flushAppendOnlyFile), and clients are answered meanwhile. So the hold pauses
// all writes (CLIENT PAUSE ms WRITE: reads go on), and waits until the server
// has nothing left to append (aof_buffer_length of INFO). From then on all that
// was acknowledged is at least in the page cache, and the filesystem freeze
// brings it to disk. At one instant any of the server's files can be loaded: a
// rewrite of the append-only file switches by renaming. It is held off all the
// same, so that the snapshot has no half-made copies and the server renames
// nothing in the freeze window, where it would stand still, reads included.
//
// The pause ends by itself after pauseFor, and is renewed while the hold lasts: a
// recipe that dies stops the site's writes for no longer. That it lasted until
// thaw is proved by a watch: a second connection has sent a command that is
// paused like a write, and may have no answer before the pause is ended here.
//
// # Without
//
// What a restart loads is the RDB file, which is replaced as a whole. prepare
// makes the server save, and waits for it; nothing is held, for nothing else
// counts. What was written since that save is not in the set, and the manifest
// says so and how much it is. Options.SaveInHold pauses writes and saves again
// under the pause; then everything that was acknowledged is in the set, and
// writes wait for as long as a save takes.
package redis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

// Options say which server, and how.
type Options struct {
	// Address is a socket's path or host:port; empty: DefaultAddress.
	Address string
	// User is the name to log in with; empty: the default user.
	User string
	// PasswordFile has the password; empty: no login.
	PasswordFile string
	// Directory is the server's directory on this host, where that differs from
	// what the server calls it.
	Directory string
	// PIDFile tells whether the server runs when it does not answer; empty: no
	// server at all may run for it to count as down.
	PIDFile string
	// SaveInHold saves the RDB file under the pause.
	SaveInHold bool
	// BinDirectory has the server's checkers, for verify; empty: where packages
	// put them.
	BinDirectory string
}

// DefaultAddress is where Debian's server listens.
const DefaultAddress = "127.0.0.1:6379"

// writer is the recipe with its session.
type writer struct {
	options Options
	conn    *conn // the session; nil: not prepared
	server  server
	saved   save // by prepare; zero: with an append-only file
	heldOff bool // automatic rewrites are
	hold    *hold
	frozen  bool
}

// New returns the recipe. It fails if the options contradict each other.
func New(o Options) (recipe.Recipe, error) {
	if o.Address == "" {
		o.Address = DefaultAddress
	}
	if o.User != "" && o.PasswordFile == "" {
		return nil, errors.New("a user needs a password: name the file that has it")
	}
	return &writer{options: o}, nil
}

func (w *writer) Prepare(ctx context.Context, r hooks.Request) (map[string]any, error) {
	if err := w.open(ctx); err != nil {
		return nil, err
	}
	warnings, err := w.place(r)
	if err != nil {
		return nil, err
	}
	if w.pauses() {
		if err := mayPause(ctx, w.conn); err != nil {
			return nil, err
		}
	}
	data := w.server.data()
	if w.server.appending {
		err = w.holdOff(ctx)
		if w.server.fsync == "no" {
			warnings = append(warnings, "appendfsync is no: a power cut may lose more than a second; the set does not")
		}
	} else {
		w.saved, err = saveNow(ctx, w.conn)
		data["saved"] = w.saved.data()
	}
	if err != nil {
		return nil, err
	}
	if len(warnings) > 0 {
		data["warnings"] = warnings
	}
	return data, nil
}

// pauses says whether the hold pauses writes.
func (w *writer) pauses() bool { return w.server.appending || w.options.SaveInHold }

func (w *writer) Freeze(ctx context.Context, r hooks.Request) (map[string]any, error) {
	if w.conn == nil {
		return nil, errors.New("not prepared")
	}
	if err := w.reopen(ctx); err != nil {
		return nil, err
	}
	data, err := w.still(ctx)
	w.frozen = err == nil
	return data, err
}

// still holds, and tells what a set then has.
func (w *writer) still(ctx context.Context) (map[string]any, error) {
	if !w.pauses() {
		return w.contains(ctx, w.saved)
	}
	var err error
	if w.hold, err = startHold(ctx, w.options, w.conn); err != nil {
		return nil, err
	}
	if w.server.appending {
		size, err := appended(ctx, w.conn)
		return map[string]any{"contains": "all that was acknowledged", "aof_size": size, "client_id": w.hold.client}, err
	}
	saved, err := saveNow(ctx, w.conn)
	if err != nil {
		return nil, err
	}
	return w.contains(ctx, saved)
}

// contains tells what a set has of a server without an append-only file.
func (w *writer) contains(ctx context.Context, s save) (map[string]any, error) {
	persistence, err := askInfo(ctx, w.conn, "persistence")
	if err != nil {
		return nil, err
	}
	since, err := persistence.number("rdb_changes_since_last_save")
	if err != nil {
		return nil, err
	}
	data := map[string]any{"contains": "the last save", "saved": s.data(), "changes_since_save": since}
	if w.hold != nil {
		data["contains"], data["client_id"] = "all that was acknowledged", w.hold.client
	}
	return data, nil
}

func (w *writer) Thaw(ctx context.Context, _ hooks.Request) (map[string]any, error) {
	if !w.frozen {
		return nil, w.letGo(ctx) // freeze failed
	}
	data, err := w.prove(ctx)
	undone := w.letGo(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", hooks.ErrHoldLost, err), undone)
	}
	return data, undone
}

// prove finds out whether the session and its hold are those of freeze.
func (w *writer) prove(ctx context.Context) (map[string]any, error) {
	general, err := askInfo(ctx, w.conn, "server")
	if err != nil {
		return nil, err
	}
	if err := w.server.same(general); err != nil {
		return nil, err
	}
	if w.hold == nil {
		return nil, nil
	}
	if err := w.hold.end(ctx); err != nil {
		return nil, err
	}
	return map[string]any{"paused_ms": w.hold.lasted.Milliseconds()}, nil
}

// Abort lets go and undoes what prepare changed.
func (w *writer) Abort(ctx context.Context, _ hooks.Request) error { return w.letGo(ctx) }

// Post has nothing to do: thaw has undone everything, so that a set that takes
// long to finish does not hold off rewrites.
func (w *writer) Post(context.Context, hooks.Request) (map[string]any, error) { return nil, nil }

func (w *writer) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return w.letGo(ctx)
}

var _ recipe.Recipe = (*writer)(nil)
