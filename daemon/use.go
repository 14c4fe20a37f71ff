package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/fermata-project/fermata/daemon/api"
)

// UseSet implements api.Lender. Whatever is done for a requester is undone here, so that it is undone too when the requester dies.
// While the daemon stops it is left: somebody still reads what is mounted, and the next daemon unmounts it when it is asked to, or
// when the requester is gone. Without a target a set is mounted by its policy, at the same place each time.
func (d *Daemon) UseSet(ctx context.Context, r api.UseRequest, u api.Use, progress func(string)) (used *api.Manifest, err error) {
	id, policy := r.Set, r.Policy
	if id != "" {
		m, _, err := d.find(id)
		if err != nil {
			return nil, err
		}
		policy = m.Policy
	}
	if r.Mount.Target == "" {
		r.Mount.Target = filepath.Join(d.o.RunDir, "exec", cmp.Or(policy, "manual"))
	}
	if id == "" {
		if r.DryRun || r.Method == api.Clone {
			return nil, api.Errorf(api.Invalid, "cannot use a set that is only planned, or copied: take it first, and name it")
		}
		if err := d.vacant(r.Mount.Target); err != nil { // nobody is held for nothing
			return nil, fmt.Errorf("cannot mount a set: %w", err)
		}
		r.Passing = !r.Keep
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
	by, err := d.userOf(u.Process)
	if err != nil {
		return nil, err
	}
	if _, err := d.mountSet(ctx, id, r.Mount, by); err != nil {
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
