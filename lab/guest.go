package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fermata-project/fermata/lab/inside"
)

// errTimeout is the cause of death of a guest that lived longer than it may.
var errTimeout = errors.New("the guest outlived its time-out")

// consoleTail is how much of a dead guest's console is shown, in lines.
const consoleTail = 60

// A guest is a directory on the host with everything that belongs to one machine
// and ends with it.
type guest struct{ dir string }

// runGuest boots a guest, runs the command in it, and gives the command's exit
// status. It has fresh disks, unless it is given some.
func runGuest(ctx context.Context, o options, p parts, disks []string) (int, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("%w of %s", errTimeout, o.timeout))
	defer cancel()
	plan, err := makePlan(o, p)
	if err != nil {
		return 0, err
	}
	g, err := newGuest(guestsDir(p.cache, o.disks), plan)
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(g.dir) // what the supervisor does when there is one
	if disks == nil {
		if disks, err = makeDisks(g.dir, o.disks); err != nil {
			return 0, err
		}
	}
	memory, err := memoryDir(o.memory, []string{"/dev/shm", os.TempDir(), g.dir})
	if err != nil {
		return 0, err
	}
	m := machine{
		kernel:  p.kernel,
		dir:     g.dir,
		image:   p.image,
		program: p.programs,
		disks:   disks,
		memory:  o.memory,
		tempdir: memory,
		shell:   o.shell,
	}
	return g.play(ctx, m, o.shell)
}

// newGuest makes a guest's directory.
func newGuest(parent string, plan inside.Plan) (g guest, err error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return g, fmt.Errorf("cannot make a guest: %w", err)
	}
	if err := sweep(parent); err != nil {
		return g, err
	}
	if g.dir, err = os.MkdirTemp(parent, ""); err != nil {
		return g, fmt.Errorf("cannot make a guest: %w", err)
	}
	defer func() {
		if err != nil {
			os.RemoveAll(g.dir)
		}
	}()
	for _, d := range inside.StageDirs {
		if err := os.MkdirAll(g.path("root", d), 0o755); err != nil {
			return g, fmt.Errorf("cannot make a guest: %w", err)
		}
	}
	text, err := json.Marshal(plan)
	if err != nil {
		return g, err
	}
	for name, data := range map[string][]byte{
		inside.PlanFile: text, inside.StdoutFile: nil, inside.StderrFile: nil, inside.StatusFile: nil,
		inside.CutFile: nil,
	} {
		if err := os.WriteFile(g.path("root/lab", name), data, 0o600); err != nil {
			return g, fmt.Errorf("cannot make a guest: %w", err)
		}
	}
	if err := os.WriteFile(g.path(consoleFile), nil, 0o600); err != nil {
		return g, fmt.Errorf("cannot make a guest: %w", err)
	}
	return g, copySelf(g.path("root/lab", inside.AgentFile))
}

func (g guest) path(elem ...string) string {
	return filepath.Join(append([]string{g.dir}, elem...)...)
}

// copySelf puts the lab's own program into the guest.
func copySelf(name string) error {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("cannot copy the lab's program: %w", err)
	}
	if err := os.WriteFile(name, self, 0o755); err != nil {
		return fmt.Errorf("cannot copy the lab's program: %w", err)
	}
	return nil
}

// play lets the machine run until the command has ended, the guest has died, or
// ctx is over. Nothing of the guest is left when it returns.
func (g guest) play(ctx context.Context, m machine, shell bool) (int, error) {
	follow, err := openStreams(g)
	if err != nil {
		return 0, err
	}
	defer follow.close()
	s, err := startMachine(m)
	if err != nil {
		return 0, err
	}
	if shell {
		restore := s.connectTerminal()
		defer restore()
	}
	const interval = 5 * time.Millisecond
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var dead bool
	for {
		status, err := follow.poll()
		if err != nil {
			s.stop()
			return 0, err
		}
		switch {
		case follow.cut():
			// The power goes at once: the guest has stopped itself, and waits for it.
			if err := s.stop(); err != nil {
				return 0, err
			}
			return 0, errCut
		case status != nil:
			if err := s.stop(); err != nil {
				return 0, err
			}
			if status.Error != "" {
				return 0, fmt.Errorf("the guest could not run the command: %s", status.Error)
			}
			return status.Code, nil
		case dead:
			return 0, fmt.Errorf("the guest died\n%s", follow.consoleTail(consoleTail))
		}
		select {
		case <-s.done:
			dead = true // one more look at what it left
		case <-ctx.Done():
			err := errors.Join(context.Cause(ctx), s.stop())
			if _, pollErr := follow.poll(); pollErr != nil {
				err = errors.Join(err, pollErr)
			}
			if errors.Is(err, errTimeout) {
				err = fmt.Errorf("%w; its console's end:\n%s", err, follow.consoleTail(consoleTail))
			}
			return 0, err
		case <-ticker.C:
		}
	}
}
