package plugin

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/fermata-project/fermata/dm/provider/plugin/protocol"
)

// pool keeps one process for what belongs to no set, as long as it is used now and then.
type pool struct {
	turn chan struct{} // one at a time
	open func(context.Context) (*session, error)
	idle time.Duration

	// Of whoever has the turn.
	kept  *session
	used  time.Time
	timer *time.Timer
}

// give hands the pool its first session.
func (p *pool) give(s *session) {
	p.turn <- struct{}{}
	defer func() { <-p.turn }()
	p.keep(s)
}

func (p *pool) keep(s *session) {
	p.kept, p.used = s, time.Now()
	if p.timer == nil {
		p.timer = time.AfterFunc(p.idle, p.expire)
	} else {
		p.timer.Reset(p.idle)
	}
}

// call asks the process that is kept, or a new one.
func (p *pool) call(ctx context.Context, m protocol.Method, limit time.Duration, params protocol.Params) (protocol.Result, error) {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return protocol.Result{}, context.Cause(ctx)
	}
	defer func() { <-p.turn }()
	s := p.kept
	p.kept = nil
	if s != nil && s.quiet() != nil { // it has died since it was asked last, or said something: another will do
		s.broken = errExited
		_ = s.end() // told by whoever looks for processes; the question is another one's
		s = nil
	}
	if s == nil {
		var err error
		if s, err = p.open(ctx); err != nil {
			return protocol.Result{}, err
		}
	}
	r, err := s.call(ctx, m, limit, params)
	if s.isBroken() {
		if e := s.end(); e != nil {
			err = fmt.Errorf("%w; %w", err, e)
		}
		return r, err
	}
	p.keep(s)
	return r, err
}

// expire ends a process that nobody has asked for a while.
func (p *pool) expire() {
	select {
	case p.turn <- struct{}{}:
	default:
		return // it is in use, and the timer will be set again
	}
	defer func() { <-p.turn }()
	if p.kept == nil {
		return
	}
	if left := p.idle - time.Since(p.used); left > 0 {
		p.timer.Reset(left)
		return
	}
	if err := p.kept.end(); err != nil {
		p.kept.log.Warn("plug-in", "error", err)
	}
	p.kept = nil
}

// close ends the process that is kept.
func (p *pool) close() error {
	p.turn <- struct{}{}
	defer func() { <-p.turn }()
	if p.timer != nil {
		p.timer.Stop()
	}
	s := p.kept
	p.kept = nil
	if s == nil {
		return nil
	}
	return s.end()
}

// claimRest is how long a plug-in that has not answered a claim is left alone: a list of all volumes must not wait for
// each one's time limit.
const claimRest = 5 * time.Second

// claims remembers that a plug-in does not answer.
type claims struct {
	mu    sync.Mutex
	err   error
	until time.Time
}

func (c *claims) rest(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err, c.until = err, time.Now().Add(claimRest)
}

func (c *claims) resting() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Now().Before(c.until) {
		return c.err
	}
	return nil
}
