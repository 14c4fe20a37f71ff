package lvm

import (
	"context"
	"os/exec"
	"sync"
)

// children counts the commands that run, those included whose callers have given up.
type children struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // closed while n is 0
}

func newChildren() *children {
	c := &children{idle: make(chan struct{})}
	close(c.idle)
	return c
}

// start starts a command. Its end is sent on the channel, whether somebody still listens or not.
func (c *children) start(cmd *exec.Cmd) (<-chan error, error) {
	c.enter()
	if err := cmd.Start(); err != nil {
		c.leave()
		return nil, err
	}
	done := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		c.leave()
		done <- err
	}()
	return done, nil
}

func (c *children) enter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n++; c.n == 1 {
		c.idle = make(chan struct{})
	}
}

func (c *children) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n--; c.n == 0 {
		close(c.idle)
	}
}

func (c *children) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n > 0
}

// Wait returns when no child runs, or with the context's error.
func (l *LVM) Wait(ctx context.Context) error {
	l.children.mu.Lock()
	idle := l.children.idle
	l.children.mu.Unlock()
	select {
	case <-idle:
		return nil
	default:
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
