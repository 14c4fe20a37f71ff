package redis

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
)

// pauseFor is how long writes stay paused if this process dies; renewEvery is
// how often the pause is begun anew. Tests shorten both.
var pauseFor, renewEvery = 10 * time.Second, 2 * time.Second

const (
	// maxHold bounds the whole hold, so that a daemon that hangs without dying
	// does not stop the site's writes for good.
	maxHold = 5 * time.Minute
	// channel is where the watch publishes, and nobody listens.
	channel = "fermata.hold"
	// watchWait is how long the watch may take where nothing is paused.
	watchWait = 2 * time.Second
)

// hold is a pause of all writes, renewed until it is ended.
type hold struct {
	client string // the id of the session that pauses
	since  time.Time
	lasted time.Duration
	over   bool  // ended here, or by somebody else: not to be ended again
	conn   *conn // the session
	watch  *conn // has sent a command that is paused like a write

	stop chan struct{}
	done sync.WaitGroup
	// of the goroutine that renews, until done
	renewed time.Time
	err     error
}

// mayPause finds out before the freeze whether the pause will be refused in it,
// and whether somebody else has one: that would be ended with ours.
func mayPause(ctx context.Context, c *conn) error {
	if _, err := c.do(ctx, "CLIENT", "ID"); err != nil {
		return granted(err)
	}
	if err := unpaused(ctx, c); err != nil {
		return err
	}
	if err := pauseWrites(ctx, c, time.Millisecond); err != nil {
		return err
	}
	_, err := c.do(ctx, "CLIENT", "UNPAUSE")
	return granted(err)
}

// unpaused is nil if a command like a write is answered.
func unpaused(ctx context.Context, c *conn) error {
	ctx, cancel := context.WithTimeout(ctx, watchWait)
	defer cancel()
	_, err := c.do(ctx, "PUBLISH", channel, "")
	if errors.Is(err, os.ErrDeadlineExceeded) { // which the socket may know before ctx does
		return fmt.Errorf("the server does not take writes: has somebody paused it (CLIENT PAUSE, a failover)? %w", err)
	}
	return granted(err)
}

// pauseWrites pauses what may write; a longer pause that there is stays.
func pauseWrites(ctx context.Context, c *conn, d time.Duration) error {
	if _, err := c.do(ctx, "CLIENT", "PAUSE", strconv.FormatInt(d.Milliseconds(), 10), "WRITE"); err != nil {
		return fmt.Errorf("cannot pause writes: %w", granted(err))
	}
	return nil
}

// startHold pauses writes. The hold that it returns has to be released also if
// there is an error, for the server may have been late.
func startHold(ctx context.Context, o Options, c *conn) (*hold, error) {
	h := &hold{stop: make(chan struct{}), conn: c}
	id, err := c.do(ctx, "CLIENT", "ID")
	if err != nil {
		return h, granted(err)
	}
	h.client = fmt.Sprint(id)
	if h.watch, err = connect(ctx, o); err != nil {
		return h, err
	}
	if err := unpaused(ctx, h.watch); err != nil {
		return h, err
	}
	h.renewed = time.Now()
	if err := pauseWrites(ctx, c, pauseFor); err != nil {
		return h, err
	}
	h.since = time.Now()
	h.keep()
	return h, h.watch.send(ctx, "PUBLISH", channel, "")
}

// keep renews the pause until it is told to stop.
func (h *hold) keep() {
	h.done.Go(func() {
		tick := time.NewTicker(renewEvery)
		defer tick.Stop()
		for h.err == nil {
			select {
			case <-h.stop:
				return
			case <-tick.C:
				h.err = h.renew()
			}
		}
	})
}

func (h *hold) renew() error {
	now := time.Now()
	if now.Sub(h.since) > maxHold {
		return fmt.Errorf("it took longer than %s", maxHold)
	}
	ctx, cancel := context.WithTimeout(context.Background(), renewEvery)
	defer cancel()
	if err := pauseWrites(ctx, h.conn, pauseFor); err != nil {
		return err
	}
	h.renewed = now
	return nil
}

// quiet ends the renewals. It may be called again.
func (h *hold) quiet() {
	select {
	case <-h.stop:
	default:
		close(h.stop)
	}
	h.done.Wait()
}

// end ends the pause, and is nil if it lasted until now.
func (h *hold) end(ctx context.Context) error {
	h.quiet()
	if h.err != nil {
		return fmt.Errorf("the pause could not be renewed: %w", h.err)
	}
	if age := time.Since(h.renewed); age > pauseFor {
		return fmt.Errorf("the pause ended by itself %s ago", age-pauseFor)
	}
	// After two round trips an answer that the watch got before them is here.
	var id any
	for range 2 {
		var err error
		if id, err = h.conn.do(ctx, "CLIENT", "ID"); err != nil {
			return err
		}
	}
	if fmt.Sprint(id) != h.client {
		return fmt.Errorf("client %v answers instead of %s: is there a proxy between? connect to the server itself", id, h.client)
	}
	silent, err := h.watch.silent()
	if err != nil {
		return fmt.Errorf("the watch is gone: %w", err)
	}
	if !silent {
		h.over = true
		return errors.New("the pause was ended by somebody else, or the server's clock was set")
	}
	h.lasted = time.Since(h.since)
	if _, err := h.conn.do(ctx, "CLIENT", "UNPAUSE"); err != nil {
		return err
	}
	h.over = true
	// That it answers now shows that it was the pause that kept it.
	if _, err := h.watch.receive(ctx); err != nil {
		return fmt.Errorf("the watch does not answer: %w", err)
	}
	return nil
}

// release ends the pause by any connection, unless it is over. A nil hold has
// nothing to release.
func (h *hold) release(ctx context.Context, c *conn) error {
	if h == nil {
		return nil
	}
	h.quiet()
	var err error
	if !h.renewed.IsZero() && !h.over {
		if _, err = c.do(ctx, "CLIENT", "UNPAUSE"); err != nil {
			err = fmt.Errorf("cannot end the pause, it ends by itself within %s: %w", pauseFor, err)
		}
	}
	return errors.Join(err, h.drop())
}

// drop renews no more, and closes the watch.
func (h *hold) drop() error {
	if h == nil {
		return nil
	}
	h.quiet()
	if h.watch == nil {
		return nil
	}
	return h.watch.Close()
}
