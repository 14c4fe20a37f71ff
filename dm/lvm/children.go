package lvm

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"time"
)

// children are the commands that run, those included whose callers have given up.
type children struct {
	mu      sync.Mutex
	running map[*exec.Cmd]*LeftBehind // nil: its caller waits
	idle    chan struct{}             // closed while none runs
}

// LeftBehind is a command that runs on after its caller's time.
type LeftBehind struct {
	Args  []string
	Pid   int
	Since time.Time // when it was left
}

func (c LeftBehind) String() string {
	return fmt.Sprintf("%s (process %d) has not returned, %d s after its time (a disk may have stopped answering, or somebody holds LVM's lock: dmesg, lvs)",
		commandLine(c.Args), c.Pid, int(time.Since(c.Since).Seconds()))
}

// ErrLeftBehind: a command that was left behind still runs, and another one would wait behind it.
var ErrLeftBehind = errors.New("an lvm command does not end")

// leftPatience is how long after its caller's time a command still holds up others, rather than having them refused: most
// of those whose requester has gone away end in a moment.
const leftPatience = 5 * time.Second

func newChildren() *children {
	c := &children{running: map[*exec.Cmd]*LeftBehind{}, idle: make(chan struct{})}
	close(c.idle)
	return c
}

// start starts a command. Its end is sent on the channel, whether somebody still listens or not.
func (c *children) start(cmd *exec.Cmd) (<-chan error, error) {
	c.enter(cmd)
	if err := cmd.Start(); err != nil {
		c.leave(cmd)
		return nil, err
	}
	done := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		c.leave(cmd)
		done <- err
	}()
	return done, nil
}

func (c *children) enter(cmd *exec.Cmd) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.running) == 0 {
		c.idle = make(chan struct{})
	}
	c.running[cmd] = nil
}

func (c *children) leave(cmd *exec.Cmd) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if delete(c.running, cmd); len(c.running) == 0 {
		close(c.idle)
	}
}

// forsake notes that nobody waits for a command any more, unless it has just ended.
func (c *children) forsake(cmd *exec.Cmd, args []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, runs := c.running[cmd]; runs {
		c.running[cmd] = &LeftBehind{Args: args, Pid: cmd.Process.Pid, Since: time.Now()}
	}
}

func (c *children) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.running) > 0
}

// left are the commands that were left behind, the oldest first.
func (c *children) left() []LeftBehind {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []LeftBehind
	for _, x := range c.running {
		if x != nil {
			out = append(out, *x)
		}
	}
	slices.SortFunc(out, func(a, b LeftBehind) int { return a.Since.Compare(b.Since) })
	return out
}

// unobstructed returns when no command is left behind, or with ErrLeftBehind.
func (c *children) unobstructed(ctx context.Context) error {
	const pause = 10 * time.Millisecond
	for {
		left := c.left()
		if len(left) == 0 {
			return nil
		}
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("%w: %w", &obstruction{left[0]}, context.Cause(ctx))
		case time.Since(left[0].Since) > leftPatience:
			return &obstruction{left[0]}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

type obstruction struct{ LeftBehind }

func (e *obstruction) Error() string { return e.String() }
func (e *obstruction) Unwrap() error { return ErrLeftBehind }

// LeftBehind lists the commands that were left behind by a time limit and still run, the oldest first.
func (l *LVM) LeftBehind() []LeftBehind { return l.children.left() }

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
