package hooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
)

// Run runs a program that is told of something and has no part in a set, with variables in its environment, and waits for it; when
// ctx ends first, it and what it has started are killed. What it prints on its standard output is lost, and the last of what it
// says on its standard error is in the error. It runs as the daemon does, so only root may be able to change it.
func Run(ctx context.Context, argv []string, env map[string]string) error {
	p, err := newProgram(Spec{Env: env}, argv)
	if err != nil {
		return fmt.Errorf("cannot run %s: %w", argv[0], err)
	}
	c, err := p.start(p.env, false, nil)
	if err != nil {
		return err
	}
	go func() { _, _ = io.Copy(io.Discard, c.stdout) }()
	select {
	case <-c.Exited:
		defer c.stdout.Close()
	case <-ctx.Done():
		c.Terminate()
		return c.describe(errors.Join(fmt.Errorf("%s did not end: %w", argv[0], context.Cause(ctx)), c.awaitEnd()))
	}
	if status := c.Status(); !status.Success() {
		return c.describe(&exitError{&exec.ExitError{ProcessState: status}})
	}
	return nil
}
