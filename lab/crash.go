package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/fermata-project/fermata/lab/inside"
)

// errCut is how a guest ends whose power was cut, as it asked.
var errCut = errors.New("the power was cut")

// splitCrash takes the arguments of `lab crash` apart: the command that the power
// cut hits, and the one that looks at what it has left.
func (o *options) splitCrash(at string) error {
	i := slices.Index(o.command, "--")
	if i < 1 || i == len(o.command)-1 {
		return errors.New("crash wants two commands: lab crash [options] -- COMMAND [ARG] -- COMMAND [ARG]")
	}
	o.command, o.after = o.command[:i:i], o.command[i+1:]
	if at != "" {
		o.command = append([]string{inside.SharedDir + "/" + inside.AgentFile, "at", at, "cut", "--"}, o.command...)
	}
	return nil
}

// runCrash boots a guest, runs the first command until the guest asks for its
// power to be cut, boots another one with the same disks and gives the second
// command's exit status.
//
// The power cut is the sudden death of every process that the guest consists of.
// A disk keeps each write that has reached its file: User-Mode Linux has no write
// cache of its own, and the host keeps what it was given. So writes that the
// guest's kernel still held back are lost, as with any disk; but no write is lost
// or reordered that a real disk had acknowledged and not yet flushed.
func runCrash(ctx context.Context, o options, p parts, _ []string) (int, error) {
	return withDisks(o, p, func(disks []string) (int, error) {
		code, err := runGuest(ctx, o, p, disks)
		if err == nil {
			return 0, fmt.Errorf("the power was never cut: the first command ended with status %d", code)
		}
		if !errors.Is(err, errCut) {
			return 0, err
		}
		o.command = o.after
		return runGuest(ctx, o, p, disks)
	})
}

// runAgain runs the command in one guest after the other, all with the same disks, until it ends without having asked for
// its power to be cut. The command finds in $LAB_BOOT which of them it is in.
func runAgain(ctx context.Context, o options, p parts, _ []string) (int, error) {
	return withDisks(o, p, func(disks []string) (code int, err error) {
		env := o.env
		for boot := 1; boot <= o.cuts+1; boot++ {
			o.env = append(slices.Clip(env), fmt.Sprintf("LAB_BOOT=%d", boot))
			if code, err = runGuest(ctx, o, p, disks); !errors.Is(err, errCut) {
				return code, err
			}
		}
		return 0, fmt.Errorf("%w more than %d times", errCut, o.cuts)
	})
}

// withDisks makes disks that outlive their guest, for as long as use runs.
func withDisks(o options, p parts, use func(disks []string) (int, error)) (int, error) {
	dir, err := newDiskDir(guestsDir(p.cache, o.disks))
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	lock, err := holdLock(dir)
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	disks, err := makeDisks(dir, o.disks)
	if err != nil {
		return 0, err
	}
	return use(disks)
}

// newDiskDir makes a directory for disks that outlive their guest. A sweep
// removes it if nobody holds its lock.
func newDiskDir(parent string) (string, error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", fmt.Errorf("cannot make the disks: %w", err)
	}
	dir, err := os.MkdirTemp(parent, "disks-")
	if err != nil {
		return "", fmt.Errorf("cannot make the disks: %w", err)
	}
	return dir, nil
}
