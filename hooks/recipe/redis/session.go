package redis

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

const (
	// startWait is how long a server that is loading its data is waited for.
	startWait = 30 * time.Second
	// pollEvery is how often a server is asked whether it is done.
	pollEvery = 20 * time.Millisecond
)

// open makes the session and inspects its server. One that is loading is waited for.
func (w *writer) open(ctx context.Context) error {
	c, err := connect(ctx, w.options)
	if recipe.Refused(err) {
		if doubt := recipe.ProvenDown(w.options.Address, w.options.PIDFile, recipe.ProcFS, serverNames...); doubt != nil {
			return fmt.Errorf("no server answers at %s, but %w", w.options.Address, doubt)
		}
		return recipe.Inactive(fmt.Errorf("no server runs at %s", w.options.Address))
	}
	if err != nil {
		return err
	}
	w.conn = c
	until := time.Now().Add(startWait)
	for {
		if w.server, err = inspect(ctx, c); err != nil {
			return err
		}
		if !w.server.loading {
			return nil
		}
		if time.Now().After(until) || !pause(ctx, 10*pollEvery) {
			return errors.New("the server is still loading its data: try again when it has")
		}
	}
}

// place checks that the server's directory is in the set, and returns warnings.
func (w *writer) place(r hooks.Request) ([]string, error) {
	named, err := recipe.NamesVolumes(r)
	if err != nil {
		return nil, err
	}
	if !named {
		return []string{recipe.Unchecked}, nil
	}
	places, err := w.server.places(w.options.Directory)
	if err != nil {
		return nil, err
	}
	return nil, recipe.CheckPlaces(places, r.Volumes)
}

// reopen makes sure that the session lives, which may have been idle for long.
// A server that was started anew is not the one that was prepared.
func (w *writer) reopen(ctx context.Context) error {
	if general, err := askInfo(ctx, w.conn, "server"); err == nil {
		return w.server.same(general)
	}
	_ = w.conn.Close() // it is of no use any more
	c, err := connect(ctx, w.options)
	if err != nil {
		return err
	}
	w.conn = c
	general, err := askInfo(ctx, w.conn, "server")
	if err != nil {
		return err
	}
	return w.server.same(general)
}

// letGo ends the pause, allows rewrites again, and closes the session. It may be
// called at any time, and again.
func (w *writer) letGo(ctx context.Context) error {
	if w.conn == nil {
		return nil
	}
	var errs []error
	if w.hold != nil || w.heldOff {
		errs = append(errs, w.undo(ctx))
	}
	w.frozen = false
	errs = append(errs, w.conn.Close())
	w.conn = nil
	return errors.Join(errs...)
}

// undo uses a connection of its own, for the session may be what was lost. With
// the server goes what there is to undo.
func (w *writer) undo(ctx context.Context) error {
	hold, heldOff := w.hold, w.heldOff
	w.hold, w.heldOff = nil, false
	c, err := connect(ctx, w.options)
	if recipe.Refused(err) {
		return hold.drop()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot undo the hold: %w", err), hold.drop())
	}
	defer c.Close()
	err = hold.release(ctx, c)
	if heldOff {
		err = errors.Join(err, allowRewrites(ctx, c))
	}
	return err
}

// await asks for the section "persistence" of INFO until done says so or fails;
// late is the error if that does not happen in time.
func await(ctx context.Context, c *conn, every time.Duration, late string, done func(info) (bool, error)) error {
	for {
		now, err := askInfo(ctx, c, "persistence")
		if err != nil && (ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded)) {
			return errors.New(late)
		}
		if err != nil {
			return err
		}
		if ok, err := done(now); ok || err != nil {
			return err
		}
		if !pause(ctx, every) {
			return errors.New(late)
		}
	}
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
