package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/daemon/api"
)

const (
	// usedPatience is how long what used a set may go on having it open before its requester is told so.
	usedPatience = time.Minute
	usedPause    = 250 * time.Millisecond
	// usedRest is the pause between further tries: what has outlived its requester may take hours.
	usedRest = time.Minute
)

// leftUse is the use of a set that has to be undone.
type leftUse struct {
	remove bool  // the set was taken for it
	living bool  // an earlier daemon mounted it, for a process that may live
	err    error // why it could not be undone the last time
}

// userOf is the process of a number, as it is noted beside what is mounted for it.
func (d *Daemon) userOf(pid int) (*user, error) {
	if pid == 0 {
		return &user{}, nil
	}
	started, err := d.o.Host.Started(pid)
	if err != nil {
		return nil, fmt.Errorf("cannot see who wants to use the set: %w", err)
	}
	return &user{pid, started}, nil
}

// lives reports whether somebody is still there to put away what he uses.
func (d *Daemon) lives(u *user) (bool, error) {
	if u == nil || u.PID == 0 {
		return u != nil, nil
	}
	started, err := d.o.Host.Started(u.PID)
	return started != 0 && started == u.Started, err
}

// putAway unmounts a set, and deletes it if it is to be. Who used it may need a moment to end; what takes longer goes on in the
// background.
func (d *Daemon) putAway(ctx context.Context, id string, remove bool) error {
	do, what := d.UmountSet, "unmount"
	if remove && (d.expires(id) || !d.exists(id)) {
		do, what = d.DeleteSet, "delete"
	} else {
		remove = false // somebody has pinned it
	}
	for end := time.Now().Add(usedPatience); ; time.Sleep(usedPause) {
		err := do(ctx, id)
		switch {
		case err == nil, remove && api.Of(err) == api.NotFound: // somebody else has deleted it
			return nil
		case !errors.Is(err, unix.EBUSY) || time.Now().After(end) || d.life.Err() != nil:
			err = fmt.Errorf("cannot %s the set that was used: %w", what, err)
			d.putAwayLater(map[string]leftUse{id: {remove: remove, err: err}})
			return err
		}
	}
}

// resumeUses puts away what earlier daemons could not, or did not live to: what is mounted for somebody who is gone, and what was
// taken for a use.
func (d *Daemon) resumeUses() error {
	uses := map[string]leftUse{}
	var errs []error
	for _, id := range d.recordedSets() {
		r, err := d.recordOf(id)
		if errs = append(errs, err); r.User != nil {
			uses[id] = leftUse{living: true}
		}
	}
	for _, m := range d.Known() {
		if m.Passing {
			uses[m.ID] = leftUse{remove: true, living: true}
		}
	}
	d.putAwayLater(uses)
	return errors.Join(errs...)
}

// putAwayLater puts away in the background.
func (d *Daemon) putAwayLater(uses map[string]leftUse) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.Copy(d.uses, uses)
	if d.puttingAway || len(d.uses) == 0 || d.life.Err() != nil {
		return
	}
	d.puttingAway = true
	d.background.Go(func() {
		for begun := time.Now(); d.putAwayLeft(d.life); {
			pause := usedPause
			if time.Since(begun) > usedPatience {
				pause = usedRest
			}
			select {
			case <-time.After(pause):
			case <-d.life.Done():
			}
		}
	})
}

// putAwayLeft tries each once, and reports whether any is left to be tried again.
func (d *Daemon) putAwayLeft(ctx context.Context) bool {
	d.mu.Lock()
	uses := maps.Clone(d.uses)
	d.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(uses)) {
		use := uses[id]
		done, err := d.putAwayOnce(ctx, id, use)
		if ctx.Err() != nil {
			break // the next daemon does
		}
		if !done && err != nil && use.err == nil {
			d.o.Log.Warn("a set that was used is not put away yet", "set", id, "error", err)
		}
		use.err = err
		d.mu.Lock()
		if _, left := d.uses[id]; done {
			delete(d.uses, id)
		} else if left {
			d.uses[id] = use
		}
		d.mu.Unlock()
		if done {
			d.changed()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.puttingAway = len(d.uses) > 0 && ctx.Err() == nil
	return d.puttingAway
}

// putAwayOnce puts a set away, unless somebody is still there who will.
func (d *Daemon) putAwayOnce(ctx context.Context, id string, use leftUse) (done bool, err error) {
	r, err := d.recordOf(id)
	if err != nil {
		return false, err
	}
	m, _, err := d.find(id)
	if api.Of(err) == api.NotFound { // gone, or its provider could not list it
		return r.User == nil, err
	}
	if r.User == nil && !use.remove { // somebody has unmounted it
		return true, nil
	}
	if use.living {
		if living, err := d.lives(r.User); living || err != nil {
			return false, err
		}
		if r.User != nil && m.Reported == nil {
			if _, err := d.ReportSet(ctx, id, api.ReportOptions{Outcome: api.BackupFailed}); err != nil {
				return false, err
			}
		}
	}
	release, err := d.turn.take(ctx, false)
	if err != nil {
		return false, err
	}
	defer release()
	switch {
	case !d.leftToUndo(id): // it is mounted for somebody else
	case use.remove && d.expires(id):
		if err = d.unsure(id); err == nil {
			err = d.drop(ctx, id)
		}
	default:
		err = d.umountSet(ctx, id)
	}
	return err == nil || api.Of(err) == api.NotFound, err
}

// leftToUndo reports whether the use of a set is still to be undone.
func (d *Daemon) leftToUndo(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, left := d.uses[id]
	return left
}

// mountedAnew ends the undoing of a use, for who has the turn and found that nothing of it is mounted any more; unless the set goes.
func (d *Daemon) mountedAnew(id string) error {
	expires := d.expires(id)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.uses[id].remove && expires {
		return api.Errorf(api.Refused, "cannot mount set %s: what it was taken for has ended, and it is being deleted (fermata snapshot pin %s keeps it)", id, id)
	}
	delete(d.uses, id)
	return nil
}

// notPutAway are problems, for who holds d.mu.
func (d *Daemon) notPutAway() []string {
	var out []string
	for _, id := range slices.Sorted(maps.Keys(d.uses)) {
		if err := d.uses[id].err; err != nil {
			out = append(out, fmt.Sprintf("set %s is not put away, though what used it has ended; it is tried again: %s", id, strings.ReplaceAll(err.Error(), "\n", "; ")))
		}
	}
	return out
}
