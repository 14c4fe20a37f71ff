package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
)

// flushes writes out filesystems and raw volumes. Nobody can interrupt a syncfs(2) that waits for a disk: one that does
// not return in time is left behind, with its thread and its descriptor, and what it writes out is refused until it
// returns. So there is one of them for each filesystem, however often a set of it is asked for.
type flushes struct {
	mu   sync.Mutex
	left map[uint64]*leftFlush // by device number
}

type leftFlush struct {
	name  string
	begun time.Time
	close func() error // nil: it is still the transaction's to close
}

// flushed is something opened to be written out.
type flushed struct {
	Syncer
	dev  uint64
	name string
}

// flush writes out what is dirty. When ctx ends first, the error says so, with class Timeout if that was a time limit.
func (f *flushes) flush(ctx context.Context, s flushed) error {
	if ctx.Err() != nil {
		return classed(api.Cancelled, fmt.Errorf("cannot write out %s: %w", s.name, context.Cause(ctx)))
	}
	x := &leftFlush{name: s.name, begun: time.Now()}
	done := make(chan error, 1)
	go func() {
		err := s.Sync()
		f.mu.Lock()
		defer f.mu.Unlock()
		done <- err
		if f.left[s.dev] == x {
			delete(f.left, s.dev)
			if x.close != nil {
				_ = x.close() // of a set that has failed long ago
			}
		}
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case err := <-done: // both at once: what was done counts
		return err
	default:
	}
	if f.left == nil {
		f.left = map[uint64]*leftFlush{}
	}
	f.left[s.dev] = x
	return classed(api.Cancelled, fmt.Errorf("cannot write out %s: it has not returned for %s (%s): %w", x.name, x.age(), diskAdvice, context.Cause(ctx)))
}

// close closes something that was opened to be written out, or has it closed when a flush that was left behind returns.
func (f *flushes) close(s flushed) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if x := f.left[s.dev]; x != nil {
		x.close = s.Close
		return nil
	}
	return s.Close()
}

// refuse is the reason why something cannot be written out; nil: there is none.
func (f *flushes) refuse(dev uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if x := f.left[dev]; x != nil {
		return api.Errorf(api.Refused, "cannot take %s: %w", x.name, x.problem())
	}
	return nil
}

// problems are the flushes that were left behind, the oldest first.
func (f *flushes) problems() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []*leftFlush
	for _, x := range f.left {
		all = append(all, x)
	}
	slices.SortFunc(all, func(a, b *leftFlush) int { return cmp.Or(a.begun.Compare(b.begun), cmp.Compare(a.name, b.name)) })
	var out []string
	for _, x := range all {
		out = append(out, x.problem().Error()+"; no set of it can be taken until then")
	}
	return out
}

func (x *leftFlush) problem() error {
	return errors.New("a flush of " + x.name + " has not returned for " + x.age() + " (" + diskAdvice + ")")
}

func (x *leftFlush) age() string {
	return fmt.Sprintf("%d s", int(time.Since(x.begun).Seconds()))
}

const diskAdvice = "a disk below may have stopped answering: dmesg"
