package client

import (
	"context"
	"errors"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
)

// Use lends a set, mounted, while act runs, whose answer says whether that was done which it was for. The daemon then reports that to
// the writers, unmounts the set, and deletes it, unless it was there before or is to be kept; also if this process dies. When
// ctx ends before act is called, it is not. If fermatad has been started anew meanwhile, the set is put away from here.
func (c *Client) Use(ctx context.Context, r api.UseRequest, act func(m *api.Manifest) (done bool), progress func(phase string)) (*api.Manifest, error) {
	path, err := c.startJob(ctx, "UseSet", useOptions(r))
	if err != nil {
		return nil, err
	}
	if progress != nil {
		stop := c.watchPhases(ctx, path, progress)
		defer stop()
	}
	held, err := c.awaitHeld(ctx, path)
	var m *api.Manifest
	if held {
		var id string
		if err = c.conn.Object(api.BusName, path).StoreProperty(api.JobInterface+".Set", &id); err == nil {
			m, err = c.Set(ctx, id)
		}
	}
	if err != nil || !held {
		waiting, cancel := context.WithCancel(ctx)
		defer cancel()
		if err != nil {
			cancel() // and so the job
		}
		_, waitErr := c.waitHold(waiting, path)
		return nil, errors.Join(err, waitErr)
	}
	done := act(m)
	after := context.WithoutCancel(ctx)
	if err := c.release(after, path, done); err != nil {
		return m, c.putAway(after, r, m.ID, done)
	}
	_, err = c.waitHold(after, path)
	return m, err
}

// putAway does what the daemon would have done that is not there any more.
func (c *Client) putAway(ctx context.Context, r api.UseRequest, id string, done bool) error {
	outcome := api.BackupFailed
	if done {
		outcome = api.BackupOK
	}
	_, reportErr := c.ReportSet(ctx, id, api.ReportOptions{Outcome: outcome, Force: true})
	if r.Set != "" || r.Keep {
		return errors.Join(reportErr, c.UmountSet(ctx, id))
	}
	return errors.Join(reportErr, c.DeleteSet(ctx, id))
}

// useOptions writes a request as the options of the method UseSet.
func useOptions(r api.UseRequest) map[string]dbus.Variant {
	o := requestOptions(r.Request)
	put := func(key string, set bool, value any) {
		if set {
			o[key] = dbus.MakeVariant(value)
		}
	}
	put("set", r.Set != "", r.Set)
	put("keep", r.Keep, true)
	put("writable", r.Mount.Writable, true)
	put("target", r.Mount.Target != "", r.Mount.Target)
	return o
}
