// Package unit holds a unit of systemd by the freezer of its cgroup: for applications that cannot be asked to hold still.
//
// Nobody but systemd thaws what it froze, and a frozen unit outlives whoever asked for that. So a note is left in Notes
// before a unit is frozen, and taken away after it was thawed; Release thaws what notes are left of.
//
// Frozen is not flushed: what the processes have in memory is not in the files. The files show what a kill would leave.
package unit

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

// Cgroups is where cgroups of version 2 are mounted.
const Cgroups = "/sys/fs/cgroup"

// State of a unit, as systemd tells it.
type State struct {
	ID         string // the unit's own name; the one that was asked for may be an alias
	Load       string // loaded, not-found, …
	Active     string // active, inactive, failed, …
	Freezer    string // running, frozen, freezing, thawing
	CanFreeze  bool
	Group      string // its cgroup, below Cgroups; empty: it has none
	Invocation string // of this run
}

// Systemd is what is asked of systemd.
type Systemd interface {
	State(ctx context.Context, unit string) (State, error)
	Freeze(ctx context.Context, unit string) error
	Thaw(ctx context.Context, unit string) error
	Close() error
}

// Unit is the recipe of one unit.
type Unit struct {
	Name    string
	Dial    func(context.Context) (Systemd, error)
	Notes   string // directory of the notes
	Cgroups string // where cgroups of version 2 are mounted

	systemd Systemd
	state   State
	frozen  bool     // Freeze was asked for, and Thaw not yet
	events  *os.File // cgroup.events, which tells of every change of the freezer
}

var _ recipe.Recipe = (*Unit)(nil)

// Prepare looks whether the unit can be held.
func (u *Unit) Prepare(ctx context.Context, _ hooks.Request) (map[string]any, error) {
	var err error
	if u.systemd, err = u.Dial(ctx); err != nil {
		return nil, err
	}
	if u.state, err = u.systemd.State(ctx, u.Name); err != nil {
		return nil, err
	}
	if err := u.state.freezable(u.Name); err != nil {
		return nil, err
	}
	if err := u.needed(ctx); err != nil {
		return nil, err
	}
	return map[string]any{"unit": u.state.ID, "invocation": u.state.Invocation}, nil
}

// freezable is nil if nothing about the unit itself speaks against a freeze.
func (s State) freezable(name string) error {
	switch {
	case s.Load == "not-found":
		return fmt.Errorf("there is no unit %s", name)
	case s.ended():
		return recipe.Inactive(fmt.Errorf("%s does not run: it is %s", name, s.Active))
	case !s.CanFreeze:
		return fmt.Errorf("systemd cannot freeze %s: that takes cgroups of version 2 and systemd 246", name)
	case s.Freezer != "running":
		return fmt.Errorf("somebody else has frozen %s: it is %s (to let it go: systemctl thaw %s)", name, s.Freezer, name)
	}
	return nil
}

// Freeze has systemd freeze the unit.
func (u *Unit) Freeze(ctx context.Context, _ hooks.Request) (map[string]any, error) {
	if u.systemd == nil {
		return nil, errors.New("not prepared")
	}
	now, err := u.systemd.State(ctx, u.state.ID)
	if err != nil {
		return nil, err
	}
	if err := now.freezable(u.Name); err != nil {
		return nil, err
	}
	u.state = now
	if err := writeNote(u.Notes, u.state); err != nil {
		return nil, err
	}
	u.frozen = true
	if err := u.systemd.Freeze(ctx, u.state.ID); err != nil {
		return nil, fmt.Errorf("systemd did not freeze %s: %w", u.Name, err)
	}
	if u.events, err = os.Open(filepath.Join(u.Cgroups, u.state.Group, "cgroup.events")); err != nil {
		return nil, err
	}
	frozen, err := u.readEvents()
	if err == nil && !frozen {
		err = fmt.Errorf("systemd says that %s is frozen, the kernel does not", u.Name)
	}
	return nil, err
}

// Thaw has systemd thaw the unit, if it still is as it was frozen.
func (u *Unit) Thaw(ctx context.Context, _ hooks.Request) (map[string]any, error) {
	if !u.frozen {
		return nil, nil
	}
	held := u.held(ctx)
	return nil, errors.Join(held, u.letGo(ctx))
}

// held is nil if the unit has been frozen without a break.
func (u *Unit) held(ctx context.Context) error {
	if u.events == nil {
		return nil // it has never held, and that was said
	}
	lost := func(format string, a ...any) error {
		return fmt.Errorf("%w: %w", hooks.ErrHoldLost, fmt.Errorf(format, a...))
	}
	// The kernel counts the changes since the last reading.
	poll := []unix.PollFd{{Fd: int32(u.events.Fd()), Events: unix.POLLPRI}}
	if _, err := unix.Poll(poll, 0); err != nil {
		return lost("cannot ask the kernel about %s: %w", u.Name, err)
	}
	if poll[0].Revents&unix.POLLPRI != 0 {
		return lost("the cgroup of %s was thawed, or emptied, in between", u.Name)
	}
	frozen, err := u.readEvents()
	if err != nil {
		return lost("%w", err)
	}
	if !frozen {
		return lost("somebody has thawed %s", u.Name)
	}
	now, err := u.systemd.State(ctx, u.state.ID)
	switch {
	case err != nil:
		return lost("%w", err)
	case now.Invocation != u.state.Invocation:
		return lost("%s was started anew", u.Name)
	case now.Freezer != "frozen":
		return lost("systemd says that %s is %s", u.Name, now.Freezer)
	}
	return nil
}

// readEvents tells whether the cgroup is frozen.
func (u *Unit) readEvents() (bool, error) {
	b := make([]byte, 4096)
	n, err := u.events.ReadAt(b, 0)
	if n == 0 {
		return false, fmt.Errorf("cannot read whether %s is frozen: %w", u.Name, err)
	}
	for line := range strings.Lines(string(b[:n])) {
		if strings.TrimSpace(line) == "frozen 1" {
			return true, nil
		}
	}
	return false, nil
}

// letGo thaws the unit, if it is what was frozen, and takes the note away.
func (u *Unit) letGo(ctx context.Context) error {
	if _, err := thaw(ctx, u.systemd, u.state.ID, u.state.Invocation); err != nil {
		return err
	}
	u.frozen = false
	if u.events != nil {
		_ = u.events.Close() // read only
		u.events = nil
	}
	return removeNote(u.Notes, u.state.ID)
}

// thaw thaws a unit if it is frozen and still the same run, and says whether.
func thaw(ctx context.Context, s Systemd, unit, invocation string) (bool, error) {
	now, err := s.State(ctx, unit)
	if err != nil || !now.frozen(invocation) {
		return false, err
	}
	if err := s.Thaw(ctx, unit); err != nil {
		if now, asking := s.State(ctx, unit); asking == nil && !now.frozen(invocation) {
			return false, nil // it has ended meanwhile
		}
		return false, fmt.Errorf("systemd did not thaw %s: %w (by hand: systemctl thaw %s)", unit, err, unit)
	}
	return true, nil
}

// frozen reports whether a run of a unit is there to be thawed. Of one that was killed while it was frozen systemd goes on to
// say that it is frozen, and does not thaw it.
func (s State) frozen(invocation string) bool {
	return !s.ended() && s.Invocation == invocation && s.Freezer != "running" && s.Freezer != "thawing"
}

// ended reports whether the unit has no process.
func (s State) ended() bool { return s.Active == "inactive" || s.Active == "failed" || s.Group == "" }

// Abort lets go what is still held.
func (u *Unit) Abort(ctx context.Context, _ hooks.Request) error {
	if !u.frozen {
		return nil
	}
	return u.letGo(ctx)
}

// Post has nothing to do.
func (u *Unit) Post(context.Context, hooks.Request) (map[string]any, error) { return nil, nil }

// Close lets go: nobody will ask for it any more.
func (u *Unit) Close() error {
	if u.systemd == nil {
		return nil
	}
	var err error
	if u.frozen {
		ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
		defer cancel()
		err = u.letGo(ctx)
	}
	return errors.Join(err, u.systemd.Close())
}

func invocation(id []byte) string { return hex.EncodeToString(id) }
