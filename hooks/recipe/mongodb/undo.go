package mongodb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fermata-project/fermata/hooks/recipe"
)

const (
	// lateLock is how long a lock is waited for that was asked for and not
	// confirmed. The server drops such a request when its connection ends.
	lateLock  = 500 * time.Millisecond
	pollEvery = 20 * time.Millisecond
)

// letGo ends our lock, if there is one, and the session. It may be called again.
func (w *writer) letGo(ctx context.Context) error {
	w.frozen = false
	if w.conn == nil {
		return nil
	}
	err := w.conn.Close() // the session may be what was lost: the lock does not depend on it
	w.conn = nil
	if w.lock != unlocked {
		err = errors.Join(err, w.unlock(ctx))
	}
	return err
}

// unlock uses a connection of its own. With the server goes its lock.
func (w *writer) unlock(ctx context.Context) error {
	c, err := connect(ctx, w.options)
	if recipe.Refused(err) {
		w.lock = unlocked
		return nil
	}
	if err == nil {
		defer c.Close()
		err = w.unlockBy(ctx, c)
	}
	if err != nil {
		return fmt.Errorf("cannot unlock the server, do it by db.fsyncUnlock(): %w", err)
	}
	w.lock = unlocked
	return nil
}

func (w *writer) unlockBy(ctx context.Context, c *conn) error {
	now, _, _, err := identify(ctx, c)
	if err != nil {
		return err
	}
	if now.pid != w.server.identity.pid {
		return nil // a new server, without our lock
	}
	for until := time.Now().Add(lateLock); w.lock == uncertain; {
		is, err := isLocked(ctx, c)
		if err != nil {
			return err
		}
		if is {
			break
		}
		if time.Now().After(until) {
			return nil
		}
		time.Sleep(pollEvery)
	}
	_, err = c.run(ctx, document{{"fsyncUnlock", int32(1)}})
	if hasCode(err, codeIllegalOperation) {
		return nil // somebody else has
	}
	return err
}
