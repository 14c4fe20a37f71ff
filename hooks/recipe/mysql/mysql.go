// Package mysql is the recipe for MariaDB and MySQL.
//
// # What is held
//
// InnoDB recovers from a power cut at any instant, and a snapshot set that has
// the data directory, the logs and all tablespaces at one instant is such a power
// cut. Tables of other engines (MyISAM, Aria without transactions, CSV) do not
// recover, files of a table that is being created or dropped may be found half
// made, and the position in the binary log at which the snapshot stands is known
// only if nobody commits. So a lock of the server's own is held, as short as it
// can be, in one session (lock.go):
//
//   - MariaDB 10.4 and newer: BACKUP STAGE up to BLOCK_COMMIT. It waits for no
//     query and for no transaction of InnoDB, only for commits, DDL and writes to
//     tables without transactions.
//   - MySQL 8.0 and newer, if all tables are InnoDB's: LOCK INSTANCE FOR BACKUP,
//     which keeps DDL out. Clients go on; the filesystem freeze holds them.
//   - everything else: FLUSH TABLES WITH READ LOCK, which waits for every
//     statement that writes (MySQL: for every statement).
//
// A lock ends with its session, so it ends with the recipe.
//
// # A lock must not take the site down
//
// Whoever waits for such a lock makes others wait. So lock_wait_timeout bounds
// each wait in the server, and a second session, opened beforehand, kills the
// first when the time that freeze may take is nearly over; the server would not
// see at once that a client has closed its socket. Before FLUSH TABLES WITH READ
// LOCK no statement may have been running for long: MySQL lets others wait for it
// even after the lock was given up.
//
// # Conditions
//
// Prepare refuses if something that recovery needs is on none of the set's
// volumes (places.go), or if a right is missing. What was acknowledged is in the
// set unless innodb_flush_log_at_trx_commit is 0, which is said as a warning: with
// 2 it has been given to the kernel, and the filesystem freeze brings it to the
// disk.
package mysql

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
	// DefaultsFile is an option file with user, password, socket, host and port;
	// empty: the user that runs the recipe, without password, by socket.
	DefaultsFile string
	// Socket is the server's socket; it overrides the option file. Empty: the
	// first of Sockets that exists.
	Socket string
	// DataDirectory is where to look whether a server runs when none answers;
	// empty: no process of this host may be a server for it to count as down.
	DataDirectory string
	// Lock is one of Locks; empty: what the server's version and tables need.
	Lock string
	// BinDirectory has the server's program, for recover and verify; empty: where
	// packages put it.
	BinDirectory string
	// ServerDefaultsFile is the server's option file, for recover and verify;
	// empty: those that it reads by itself.
	ServerDefaultsFile string
}

// Sockets are where servers are looked for: as Debian and as Red Hat have it.
var Sockets = []string{"/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock"}

const (
	connectTimeout = 10 * time.Second
	// defaultLimit stands for a phase's time limit when Fermata names none.
	defaultLimit = 10 * time.Second
	// rehearsal bounds the locks that prepare takes for a moment.
	rehearsal = 5 * time.Second
)

// writer is the recipe with its sessions.
type writer struct {
	options Options
	hold    *session // takes the lock, and holds it
	watch   *session // ends the other if that takes too long
	server  server
	lock    lock
	held    *position // nil: not frozen
}

// New returns the recipe. It fails if the options cannot be meant.
func New(o Options) (recipe.Recipe, error) {
	if _, err := lockNamed(o.Lock); err != nil {
		return nil, err
	}
	return &writer{options: o}, nil
}

func (w *writer) Prepare(ctx context.Context, r hooks.Request) (map[string]any, error) {
	if err := w.connect(ctx); err != nil {
		return nil, err
	}
	var err error
	if w.server, err = inspect(ctx, w.hold); err != nil {
		return nil, err
	}
	if err := w.settings(ctx, rehearsal); err != nil {
		return nil, err
	}
	files, err := w.files(ctx)
	if err != nil {
		return nil, err
	}
	if w.lock, err = choose(w.options.Lock, w.server, files.others); err != nil {
		return nil, err
	}
	warnings := w.server.warnings()
	named, err := recipe.NamesVolumes(r)
	switch {
	case err != nil:
		return nil, err
	case !named:
		warnings = append(warnings, recipe.Unchecked)
	default:
		if err := recipe.CheckPlaces(files.places, r.Volumes); err != nil {
			return nil, err
		}
	}
	if err := w.rehearse(ctx); err != nil {
		return nil, err
	}
	data := w.server.data(files.places)
	data["lock"] = w.lock.name
	if len(warnings) > 0 {
		data["warnings"] = warnings
	}
	return data, nil
}

func (w *writer) Freeze(ctx context.Context, r hooks.Request) (map[string]any, error) {
	if w.hold == nil {
		return nil, errors.New("not prepared")
	}
	limit := patience(r.Timeout)
	if err := w.settings(ctx, limit); err != nil {
		return nil, err
	}
	if err := w.take(ctx, limit); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	at, err := w.server.locate(ctx, w.hold)
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	w.held = &at
	return at.data(w.lock), nil
}

func (w *writer) Thaw(ctx context.Context, _ hooks.Request) (map[string]any, error) {
	held := w.held
	w.held = nil
	if held == nil {
		return nil, w.Close() // freeze failed: whatever it began ends with the session
	}
	at, err := w.prove(ctx, *held)
	if err == nil {
		err = w.hold.exec(ctx, w.lock.release)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", hooks.ErrHoldLost, err), w.Close())
	}
	return at.data(w.lock), nil
}

// prove asks the session who it is, what it holds, and whether anybody has
// committed: all must be as at freeze.
func (w *writer) prove(ctx context.Context, held position) (position, error) {
	if err := w.lock.stillHeld(ctx, w.hold); err != nil {
		return position{}, err
	}
	at, err := w.server.locate(ctx, w.hold)
	if err != nil {
		return position{}, err
	}
	return at, held.same(at, w.lock.commits)
}

// Abort ends the sessions, and with them any lock.
func (w *writer) Abort(context.Context, hooks.Request) error {
	w.held = nil
	return w.Close()
}

func (w *writer) Post(context.Context, hooks.Request) (map[string]any, error) { return nil, nil }

func (w *writer) Close() error {
	err := errors.Join(w.hold.close(), w.watch.close())
	w.hold, w.watch = nil, nil
	return err
}

var _ recipe.Recipe = (*writer)(nil)
