package mysql

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// grace is what the server gets to obey a KILL before the socket is closed.
const grace = 500 * time.Millisecond

// patience is the part of freeze's time limit that a lock may be waited for: what
// remains is for withdrawing it, and for saying so.
func patience(limit time.Duration) time.Duration {
	if limit == 0 {
		limit = defaultLimit
	}
	return limit * 7 / 10
}

// settings of the sessions: limit bounds each wait for a lock, in the server, also
// when the recipe is dead; and the server ends no session that only waits.
func (w *writer) settings(ctx context.Context, limit time.Duration) error {
	statement := fmt.Sprintf("SET SESSION lock_wait_timeout = %d, wait_timeout = 86400", max(1, int(limit/time.Second)))
	if w.server.mariadb {
		statement += ", max_statement_time = 0"
	}
	return errors.Join(w.hold.exec(ctx, statement), w.watch.exec(ctx, statement))
}

// rehearse finds out before the freeze whether the rights suffice.
func (w *writer) rehearse(ctx context.Context) error {
	for _, statement := range w.lock.rehearse {
		if err := w.hold.exec(ctx, statement); err != nil {
			return fmt.Errorf("cannot lock: %s: %w", statement, w.server.granted(err, w.lock.rights))
		}
	}
	_, err := w.server.locate(ctx, w.hold)
	return err
}

// take takes the lock, or withdraws what waits for it when limit has passed or ctx
// has ended.
func (w *writer) take(ctx context.Context, limit time.Duration) error {
	until := time.Now().Add(limit)
	if w.lock.waits {
		if err := w.awaitShort(ctx, limit/2); err != nil {
			return err
		}
	}
	patient, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	last, end := context.WithDeadline(context.WithoutCancel(ctx), until.Add(grace))
	defer end()
	killed := make(chan error, 1)
	granted := context.AfterFunc(patient, func() { killed <- w.watch.kill(w.hold.id) })
	var at string
	var err error
	for _, at = range w.lock.take {
		if err = w.hold.exec(last, at); err != nil {
			break
		}
	}
	if !granted() { // too late, whatever err is: the session is being killed
		err = fmt.Errorf("withdrawn after %s: %w", limit, errors.Join(err, <-killed, ctx.Err()))
	}
	if err == nil {
		return nil
	}
	if found := w.longest(); found != nil {
		err = fmt.Errorf("%w; %w", err, found)
	}
	return fmt.Errorf("cannot lock: %s: %w", at, err)
}

// awaitShort waits until no statement has been running for as long as limit, and
// refuses if that takes longer.
func (w *writer) awaitShort(ctx context.Context, limit time.Duration) error {
	for until := time.Now().Add(limit); ; {
		rows, err := w.watch.query(ctx, "SHOW PROCESSLIST")
		if err != nil {
			return fmt.Errorf("cannot list the running statements: %w", err)
		}
		found, ok := oldest(rows, w.hold.id, w.watch.id)
		if !ok || found.seconds < int(math.Ceil(limit.Seconds())) {
			return nil
		}
		if time.Now().After(until) || !pause(ctx, 100*time.Millisecond) {
			return fmt.Errorf("cannot lock: %w: everybody else would wait for it, too; try later, or end it", found)
		}
	}
}

// longest names the statement that most likely stood in the way; nil if there is
// none, or if it cannot be seen.
func (w *writer) longest() error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	rows, err := w.watch.query(ctx, "SHOW PROCESSLIST")
	if err != nil {
		return nil // it was only to explain another error
	}
	if found, ok := oldest(rows, w.hold.id, w.watch.id); ok {
		return found
	}
	return nil
}

// running is a statement that takes its time.
type running struct {
	id, user, host string
	seconds        int
}

func (r running) Error() string {
	return fmt.Sprintf("connection %s (%s@%s) has been running a statement for %d s", r.id, r.user, r.host, r.seconds)
}

// oldest is the client's statement that has been running longest, of what SHOW
// PROCESSLIST returned, but for one's own sessions.
func oldest(rows []row, own ...string) (found running, ok bool) {
	for _, r := range rows {
		switch command := r["command"]; {
		case command != "Query" && command != "Execute", r["user"] == "system user", r["id"] == own[0], r["id"] == own[1]:
			continue
		}
		seconds, err := strconv.Atoi(r["time"])
		if err == nil && (!ok || seconds > found.seconds) {
			found, ok = running{r["id"], r["user"], r["host"], seconds}, true
		}
	}
	return found, ok
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
