// Package mongodb is the recipe for MongoDB 4.4 and newer.
//
// By default nothing is locked. WiredTiger, with its journal, recovers from a
// power cut at any instant, and a set that has data directory and journal at one
// instant is such a power cut (MongoDB manual, "Back Up and Restore with
// Filesystem Snapshots"). So prepare writes a checkpoint (fsync), and refuses if
// that reasoning does not hold; thaw proves that the same server and session are
// still there.
//
// Options.Lock blocks writes for the hold by fsync with lock, for storage engines
// without a journal. That lock is counted, and belongs to the server and not to
// the session: it outlives a recipe that is killed. Nothing in the server would
// end it, so the default is not to have it. A recipe that ends in any other way
// unlocks, and does so exactly once for each lock of its own.
//
// The protocol is spoken here, as far as six commands need it. It was tested
// against a fake that checks these commands, and not against a real server.
package mongodb

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
	// User is the name to log in with, on database admin; empty: no login.
	User string
	// PasswordFile has the password.
	PasswordFile string
	// Directory is the data directory on this host, where that differs from what
	// the server calls it.
	Directory string
	// PIDFile tells whether the server runs when it does not answer: mongod.lock of
	// the data directory. Empty: no mongod at all may run for it to count as down.
	PIDFile string
	// Lock blocks writes for the hold.
	Lock bool
}

// DefaultAddress is where a server listens by default.
const DefaultAddress = "127.0.0.1:27017"

// serverName is the name of a server's process (/proc/PID/comm).
const serverName = "mongod"

// lock is what is known of our own lock.
type lock int

const (
	unlocked  lock = iota
	uncertain      // asked for; no answer has come
	held
)

// writer is the recipe with its session.
type writer struct {
	options Options
	conn    *conn // nil: not prepared
	server  server
	lock    lock
	frozen  bool
}

// New returns the recipe. It fails if the options contradict each other.
func New(o Options) (recipe.Recipe, error) {
	if o.Address == "" {
		o.Address = DefaultAddress
	}
	if (o.User == "") != (o.PasswordFile == "") {
		return nil, errors.New("give both a user and the file that has the password, or neither")
	}
	return &writer{options: o}, nil
}

func (w *writer) Prepare(ctx context.Context, r hooks.Request) (map[string]any, error) {
	c, err := connect(ctx, w.options)
	if recipe.Refused(err) {
		if doubt := recipe.ProvenDown(w.options.Address, w.options.PIDFile, recipe.ProcFS, serverName); doubt != nil {
			return nil, fmt.Errorf("no server answers at %s, but %w", w.options.Address, doubt)
		}
		return nil, recipe.Inactive(fmt.Errorf("no server runs at %s", w.options.Address))
	}
	if err != nil {
		return nil, err
	}
	w.conn = c
	if w.server, err = inspect(ctx, c); err != nil {
		return nil, err
	}
	if err := w.server.serves(w.options.Lock); err != nil {
		return nil, err
	}
	named, err := recipe.NamesVolumes(r)
	if err != nil {
		return nil, err
	}
	var warnings []string
	if named {
		err = w.place(r)
	} else {
		warnings = []string{recipe.Unchecked}
	}
	if err != nil {
		return nil, err
	}
	if w.options.Lock {
		if err := notLocked(ctx, c); err != nil {
			return nil, err
		}
	}
	if _, err := c.run(ctx, document{{"fsync", int32(1)}}); err != nil {
		return nil, fmt.Errorf("cannot write a checkpoint: %w", granted(err))
	}
	data := w.server.data()
	data["locks"] = w.options.Lock
	if len(warnings) > 0 {
		data["warnings"] = warnings
	}
	return data, nil
}

func (w *writer) place(r hooks.Request) error {
	places, err := w.server.places(w.options.Directory)
	if err != nil {
		return err
	}
	return recipe.CheckPlaces(places, r.Volumes)
}

// notLocked is nil if nobody has the server locked: then a lock that there is
// later, with a count of one, is ours.
func notLocked(ctx context.Context, c *conn) error {
	is, err := isLocked(ctx, c)
	if err == nil && is {
		err = errors.New("somebody has the server locked (fsyncLock); if it is a backup that died, unlock it by db.fsyncUnlock()")
	}
	return err
}

// isLocked asks for the server's state, and for no operations.
func isLocked(ctx context.Context, c *conn) (bool, error) {
	r, err := c.run(ctx, document{{"currentOp", int32(1)}, {"desc", "fermata"}})
	if err != nil {
		return false, granted(err)
	}
	return r.yes("fsyncLock"), nil
}

func (w *writer) Freeze(ctx context.Context, _ hooks.Request) (map[string]any, error) {
	if w.conn == nil {
		return nil, errors.New("not prepared")
	}
	now, _, _, err := identify(ctx, w.conn)
	if err == nil {
		err = w.server.identity.same(now)
	}
	if err == nil && w.options.Lock {
		err = w.takeLock(ctx)
	}
	if err != nil {
		return nil, err
	}
	w.frozen = true
	return map[string]any{"connection_id": now.connection}, nil
}

func (w *writer) takeLock(ctx context.Context) error {
	if err := notLocked(ctx, w.conn); err != nil {
		return err
	}
	w.lock = uncertain
	r, err := w.conn.run(ctx, document{{"fsync", int32(1)}, {"lock", true}, {"comment", "fermata"}})
	if refusal := (*Error)(nil); errors.As(err, &refusal) {
		w.lock = unlocked
	}
	if err != nil {
		return fmt.Errorf("cannot lock the server: %w", granted(err))
	}
	w.lock = held
	count, err := r.number("lockCount")
	if err == nil && count != 1 {
		err = fmt.Errorf("somebody else has locked the server as well: it has %d locks", count)
	}
	return err
}

func (w *writer) Thaw(ctx context.Context, _ hooks.Request) (map[string]any, error) {
	if !w.frozen {
		return nil, w.letGo(ctx)
	}
	w.frozen = false
	err := w.prove(ctx)
	if err != nil {
		err = fmt.Errorf("%w: %w", hooks.ErrHoldLost, err)
	}
	return nil, errors.Join(err, w.letGo(ctx))
}

// prove finds out whether session, server and lock are those of freeze, and ends the lock.
func (w *writer) prove(ctx context.Context) error {
	now, _, _, err := identify(ctx, w.conn)
	if err == nil {
		err = w.server.identity.same(now)
	}
	if err != nil || w.lock == unlocked {
		return err
	}
	_, err = w.conn.run(ctx, document{{"fsyncUnlock", int32(1)}})
	if hasCode(err, codeIllegalOperation) {
		w.lock = unlocked
		return fmt.Errorf("somebody else has unlocked the server: %w", err)
	}
	if err == nil {
		w.lock = unlocked
	}
	return err
}

func (w *writer) Abort(ctx context.Context, _ hooks.Request) error { return w.letGo(ctx) }

func (w *writer) Post(context.Context, hooks.Request) (map[string]any, error) { return nil, nil }

func (w *writer) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return w.letGo(ctx)
}

var _ recipe.Recipe = (*writer)(nil)
