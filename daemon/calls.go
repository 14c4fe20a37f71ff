package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
)

// calls runs what nobody can interrupt, because it waits in the kernel for a disk: a syncfs(2), or the question how full a
// thin pool is while that writes its metadata. A call that does not return in time is left behind, with its thread, and
// another one of the same kind is refused until it returns: so there is one of each, however often it is asked for.
type calls struct {
	mu      sync.Mutex
	running map[string]*call // by key
}

// call is one that may not return.
type call struct {
	key  string
	what string // "a flush of /srv": that has not returned
	fail string // "write out /srv": that cannot be done
	// advice is what may be wrong; empty: diskAdvice.
	advice string
	// grace is what a call gets that heeds the context, to end by itself.
	grace time.Duration

	// then is done when it returns after it was left behind.
	then []func() error

	begun time.Time
	ended chan struct{}
	left  bool
}

// errLeft: the call was left behind. Nothing of what it makes may be used.
var errLeft = errors.New("it goes on")

// do runs f as call x, one at a time. When ctx ends first, the error says so, with class Timeout if that was a time limit,
// and f goes on: it may use nothing that its caller goes on with.
func (c *calls) do(ctx context.Context, x call, f func() error) error {
	x.begun, x.ended = time.Now(), make(chan struct{})
	if err := c.enter(ctx, &x); err != nil {
		return err
	}
	var err error
	go func() {
		err = f()
		c.leave(&x)
	}()
	select {
	case <-x.ended:
		return err
	case <-ctx.Done():
	}
	select {
	case <-x.ended:
	case <-time.After(x.grace):
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-x.ended: // both at once: what was done counts
		return err
	default:
	}
	x.left = true
	return classed(api.Cancelled, &leftError{fmt.Errorf("cannot %s: it has not returned for %s (%s): %w", x.fail, x.age(), x.advise(), context.Cause(ctx))})
}

// enter waits until no other call of the key runs, and refuses one behind a call that was left.
func (c *calls) enter(ctx context.Context, x *call) error {
	for {
		c.mu.Lock()
		before := c.running[x.key]
		switch {
		case before != nil && before.left:
			defer c.mu.Unlock()
			return api.Errorf(api.Refused, "cannot %s: %w", x.fail, before.problem())
		case ctx.Err() != nil:
			c.mu.Unlock()
			return classed(api.Cancelled, fmt.Errorf("cannot %s: %w", x.fail, context.Cause(ctx)))
		case before == nil:
			if c.running == nil {
				c.running = map[string]*call{}
			}
			c.running[x.key] = x
			c.mu.Unlock()
			return nil
		}
		c.mu.Unlock()
		select {
		case <-before.ended:
		case <-ctx.Done():
		}
	}
}

// leave ends a call. What is to be done after one that was left behind comes before the next of its key.
func (c *calls) leave(x *call) {
	for {
		c.mu.Lock()
		then := x.then
		if x.then = nil; !x.left || len(then) == 0 {
			delete(c.running, x.key)
			close(x.ended)
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		for _, do := range then {
			_ = do() // of a request that has failed long ago
		}
	}
}

// after does what must not be done while a call that was left behind goes on: now, or when that returns.
func (c *calls) after(key string, do func() error) error {
	c.mu.Lock()
	if x := c.running[key]; x != nil && x.left {
		x.then = append(x.then, do)
		c.mu.Unlock()
		return nil
	}
	c.mu.Unlock()
	return do()
}

// left says why a call of the key would be refused; nil: it would not.
func (c *calls) left(key string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x := c.running[key]; x != nil && x.left {
		return x.problem()
	}
	return nil
}

// problems are the calls that were left behind, the oldest first.
func (c *calls) problems() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*call
	for _, x := range c.running {
		if x.left {
			all = append(all, x)
		}
	}
	slices.SortFunc(all, func(a, b *call) int { return cmp.Or(a.begun.Compare(b.begun), strings.Compare(a.key, b.key)) })
	var out []string
	for _, x := range all {
		out = append(out, x.problem().Error())
	}
	return out
}

func (x *call) problem() error {
	return &behindError{errors.New(x.what + " has not returned for " + x.age() + " (" + x.advise() + ")")}
}

// errBehind: the call was refused, because another was left behind.
var errBehind = errors.New("a call has not returned")

type behindError struct{ error }

func (e *behindError) Is(target error) bool { return target == errBehind }

// settle returns when no call is left behind any more.
func (c *calls) settle(ctx context.Context) error {
	for {
		var left *call
		c.mu.Lock()
		for _, x := range c.running {
			if x.left {
				left = x
			}
		}
		c.mu.Unlock()
		if left == nil {
			return context.Cause(ctx)
		}
		select {
		case <-left.ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (x *call) advise() string { return cmp.Or(x.advice, diskAdvice) }

// leftError is errLeft with a text of its own.
type leftError struct{ error }

func (e *leftError) Is(target error) bool { return target == errLeft }
func (e *leftError) Unwrap() error        { return e.error }

func (x *call) age() string { return fmt.Sprintf("%d s", int(time.Since(x.begun).Seconds())) }

const diskAdvice = "a disk below may have stopped answering: dmesg"
