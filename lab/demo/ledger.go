package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// ledger is a client that remembers what it was promised: number n stands in entries[n-1]. It has one transaction in
// flight at a time. Sent is noted before the first byte leaves, acked after the last one came, so that a busy guest can only
// make the proofs harder to fail wrongly: what counts as acknowledged before an instant was, and what counts as sent after
// it was.
type ledger struct {
	mu      sync.Mutex
	entries []entry
	err     error
	stopped chan struct{} // closed when the client has ended
	stop    context.CancelFunc
}

type entry struct{ sent, acked time.Time }

func (e entry) latency() time.Duration { return e.acked.Sub(e.sent) }

// pause between transactions leaves the guest's one processor something for everybody else.
const pause = 2 * time.Millisecond

// maxEntries bounds the memory; a guest makes some hundreds a second.
const maxEntries = 10_000_000

func (l *ledger) start(port int) error {
	ctx, cancel := context.WithCancel(context.Background())
	conn, err := connect(ctx, port)
	if err != nil {
		cancel()
		return err
	}
	l.stop, l.stopped = cancel, make(chan struct{})
	go func() {
		defer close(l.stopped)
		defer conn.Close(context.Background())
		for n := 1; n <= maxEntries && ctx.Err() == nil; n++ {
			if err := l.transaction(conn, n); err != nil {
				l.mu.Lock()
				l.err = fmt.Errorf("transaction %d of the ledger: %w", n, err)
				l.mu.Unlock()
				return
			}
			time.Sleep(pause)
		}
	}()
	return nil
}

func (l *ledger) transaction(conn *pgconn.PgConn, n int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	sql := fmt.Sprintf("begin; insert into ledger_data values (%d); insert into ledger_fast values (%[1]d); commit", n)
	var e entry
	e.sent = time.Now()
	err := conn.Exec(ctx, sql).Close()
	e.acked = time.Now()
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, e)
	return nil
}

// acknowledged is how many transactions are, by now; it fails if the client has.
func (l *ledger) acknowledged() (int, error) {
	all, err := l.all()
	return len(all), err
}

func (l *ledger) all() ([]entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries, l.err
}

// end stops the client after the transaction in flight.
func (l *ledger) end() error {
	if l.stop == nil {
		return errors.New("internal error: the ledger was never started")
	}
	l.stop()
	<-l.stopped
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// judgement is what the rows of a set say about the ledger.
type judgement struct {
	promised int   // numbers acknowledged before the capture
	missing  []int // those of them that the set has not
	inFlight []int // sent before it and acknowledged after it: whether the set has them or not, either is right
	later    int   // numbers sent after the capture
	early    []int // those of them that the set has
	unknown  []int // in the set, and never sent
}

// judge compares the rows of a set with what its ledger noted around the capture.
func judge(entries []entry, rows map[int]bool, capture interval) judgement {
	var j judgement
	for i, e := range entries {
		n := i + 1
		switch {
		case e.acked.Before(capture.begin):
			j.promised++
			if !rows[n] {
				j.missing = append(j.missing, n)
			}
		case e.sent.After(capture.end):
			j.later++
			if rows[n] {
				j.early = append(j.early, n)
			}
		default:
			j.inFlight = append(j.inFlight, n)
		}
	}
	for n := range rows {
		if n < 1 || n > len(entries) {
			j.unknown = append(j.unknown, n)
		}
	}
	return j
}

// pace says how transactions sent in an interval went.
type pace struct {
	count   int
	longest time.Duration
}

// during looks at the transactions that were in flight at some time of the interval.
func during(entries []entry, i interval) pace {
	var p pace
	for _, e := range entries {
		if e.acked.Before(i.begin) || e.sent.After(i.end) {
			continue
		}
		p.count++
		p.longest = max(p.longest, e.latency())
	}
	return p
}
