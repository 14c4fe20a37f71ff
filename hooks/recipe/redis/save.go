package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// maxTries is how often a save is begun: another may slip in between.
const maxTries = 3

// save is one finished RDB file.
type save struct {
	begun time.Time // by the server's clock: what was acknowledged before is in it
	done  time.Time // the same; whole seconds
}

func (s save) data() map[string]any {
	return map[string]any{"begun": s.begun.UTC().Format(time.RFC3339Nano), "done": s.done.UTC().Format(time.RFC3339)}
}

// saveNow makes the server save, and waits until it has. A save or a rewrite
// that is running already is waited for first: it does not have the last writes.
func saveNow(ctx context.Context, c *conn) (save, error) {
	for try := 1; ; try++ {
		begun, err := serverTime(ctx, c)
		if err != nil {
			return save{}, err
		}
		_, refusal := c.do(ctx, "BGSAVE")
		if refusal == nil {
			return awaitSave(ctx, c, begun)
		}
		var e *Error
		if try == maxTries || !errors.As(refusal, &e) || hasCode(refusal, "NOPERM") {
			return save{}, fmt.Errorf("cannot save: %w", granted(refusal))
		}
		err = await(ctx, c, pollEvery, "cannot save: another save or rewrite has not ended in time",
			func(now info) (bool, error) { return !now.busy(), nil })
		if err != nil {
			return save{}, err
		}
	}
}

// awaitSave waits for a save that has begun, and sees that it went well.
func awaitSave(ctx context.Context, c *conn, begun time.Time) (done save, err error) {
	err = await(ctx, c, pollEvery, "the save has not ended in time: give the phase a longer time limit, or save at a quieter hour",
		func(now info) (bool, error) {
			if now["rdb_bgsave_in_progress"] != "0" {
				return false, nil
			}
			var err error
			done, err = now.saved(begun)
			return true, err
		})
	return done, err
}

// saved says how a save that was begun went.
func (i info) saved(begun time.Time) (save, error) {
	last, err := i.number("rdb_last_save_time")
	if err != nil {
		return save{}, err
	}
	if i["rdb_last_bgsave_status"] != "ok" || last < begun.Unix() {
		return save{}, errors.New("the server could not save: its log says why")
	}
	return save{begun, time.Unix(last, 0)}, nil
}

// busy says whether a process of the server is saving or rewriting, or waits to.
func (i info) busy() bool {
	for _, field := range []string{"rdb_bgsave_in_progress", "aof_rewrite_in_progress", "aof_rewrite_scheduled"} {
		if i[field] == "1" {
			return true
		}
	}
	return false
}

// serverTime is the server's clock, which need not be ours.
func serverTime(ctx context.Context, c *conn) (time.Time, error) {
	reply, err := c.do(ctx, "TIME")
	if err != nil {
		return time.Time{}, granted(err)
	}
	pair, _ := reply.([]any)
	if len(pair) != 2 {
		return time.Time{}, errors.New("the server does not tell the time")
	}
	var n [2]int64
	for i, v := range pair {
		s, _ := v.(string)
		if n[i], err = strconv.ParseInt(s, 10, 64); err != nil {
			return time.Time{}, fmt.Errorf("the server does not tell the time: %w", err)
		}
	}
	return time.Unix(n[0], n[1]*1000), nil
}
