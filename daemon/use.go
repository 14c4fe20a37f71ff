package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/daemon/api"
)

const (
	// usedPatience is how long what used a set may go on having it open after its requester is gone.
	usedPatience = time.Minute
	usedPause    = 250 * time.Millisecond
)

// UseSet implements api.Lender. Whatever is done for a requester is undone here, so that it is undone too when the requester dies.
// While the daemon stops it is left: somebody still reads what is mounted, and the next daemon unmounts it when it is asked to.
func (d *Daemon) UseSet(ctx context.Context, r api.UseRequest, u api.Use, progress func(string)) (used *api.Manifest, err error) {
	id := r.Set
	if id == "" {
		if r.DryRun || r.Method == api.Clone {
			return nil, api.Errorf(api.Invalid, "cannot use a set that is only planned, or copied: take it first, and name it")
		}
		m, err := d.CreateSet(ctx, r.Request, progress)
		if err != nil {
			return nil, err
		}
		id = m.ID
	}
	remove := r.Set == "" && !r.Keep
	mounted, done := false, false
	defer func() {
		if d.life.Err() != nil {
			err = errors.Join(err, api.Errorf(api.Failed, "fermatad stops: set %s is left as it is", id))
			return
		}
		after := context.WithoutCancel(ctx)
		if !mounted && !remove { // it may be somebody else who has it mounted
			return
		}
		if mounted {
			_, reportErr := d.ReportSet(after, id, api.ReportOptions{Outcome: outcomeOf(done), Force: true})
			err = errors.Join(err, reportErr)
		}
		err = errors.Join(err, d.putAway(after, id, remove))
	}()
	progress("mount")
	if _, err := d.MountSet(ctx, id, r.Mount); err != nil {
		return nil, err
	}
	mounted = true
	m, _, err := d.find(id)
	if err != nil {
		return nil, err
	}
	d.withMounts(&m)
	progress("use")
	u.Mounted(id)
	select {
	case done = <-u.Release:
		return &m, nil
	case <-ctx.Done():
		return &m, api.Errorf(classOf(context.Cause(ctx), api.Cancelled), "set %s was not released by who used it: %w", id, context.Cause(ctx))
	}
}

func outcomeOf(done bool) string {
	if done {
		return api.BackupOK
	}
	return api.BackupFailed
}

// putAway unmounts a set, and deletes it if it is to be. Who used it may need a moment to end.
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
			return fmt.Errorf("cannot %s the set that was used: %w", what, err)
		}
	}
}
