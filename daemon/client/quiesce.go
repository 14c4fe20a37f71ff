package client

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
)

const jobRoot = api.ManagerPath + "/job/"

// Quiesce holds without a snapshot, and calls act when everything is held. What act returns says whether that was done
// which the hold was for; the hold is then released. The manifest, in state Released, says that the hold lasted from before
// act began until after it returned; an error that it did not, or that nothing was ever held and act was not called. When
// ctx ends, the hold does, and Quiesce returns after act.
func (c *Client) Quiesce(ctx context.Context, r api.QuiesceRequest, act func(context.Context) (done bool), progress func(phase string)) (*api.Manifest, error) {
	path, err := c.startHold(ctx, r, false)
	if err != nil {
		return nil, err
	}
	if progress != nil {
		stop := c.watchPhases(ctx, path, progress)
		defer stop()
	}
	ended := make(chan error, 1)
	var m *api.Manifest
	go func() {
		var err error
		m, err = c.waitHold(ctx, path)
		ended <- err
	}()
	held, _ := c.awaitHeld(ctx, path) // the wait says why not
	if held {
		if done := act(ctx); ctx.Err() == nil { // otherwise the wait cancels it
			_ = c.release(ctx, path, done) // one that has ended cannot be released, and the wait says why it has
		}
	}
	if err = <-ended; held {
		err = unproven(err)
	}
	return m, err
}

// unproven is the error of a hold that was begun: whatever went wrong since, fermatad's death included, nothing proves that it
// lasted.
func unproven(err error) error {
	if api.Of(err) != api.Failed || err == nil {
		return err
	}
	return api.Errorf(api.Broken, "cannot tell whether the hold lasted: %w", err)
}

// StartQuiesce holds like Quiesce, but returns as soon as everything is held. The hold goes on without this client, until
// ReleaseQuiesce is called with its number, or until its time is over. Begun is told the number before anything is held.
func (c *Client) StartQuiesce(ctx context.Context, r api.QuiesceRequest, begun func(number uint64)) error {
	path, err := c.startHold(ctx, r, true)
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(strings.TrimPrefix(string(path), jobRoot), 10, 64)
	if err != nil {
		return api.Errorf(api.Failed, "cannot read what fermatad answered to Quiesce: %w", err)
	}
	begun(number)
	if held, err := c.awaitHeld(ctx, path); held || err != nil && ctx.Err() == nil {
		return err
	}
	_, err = c.waitHold(ctx, path) // which cancels it, if ctx has ended
	return err
}

// ReleaseQuiesce ends a hold that StartQuiesce began; done says whether that was done which the hold was for.
func (c *Client) ReleaseQuiesce(ctx context.Context, number uint64, done bool) (*api.Manifest, error) {
	path := dbus.ObjectPath(jobRoot + strconv.FormatUint(number, 10))
	if err := c.release(ctx, path, done); api.Of(err) == api.NotFound {
		return nil, api.Errorf(api.Broken, "there is no hold %d any more: it ended more than a minute ago, or fermatad did", number)
	} else if err != nil {
		return nil, unproven(err)
	}
	m, err := c.waitHold(ctx, path)
	return m, unproven(err)
}

func (c *Client) startHold(ctx context.Context, r api.QuiesceRequest, detach bool) (dbus.ObjectPath, error) {
	o := quiesceOptions(r)
	if detach {
		o["detach"] = dbus.MakeVariant(true)
	}
	return c.startJob(ctx, "Quiesce", o)
}

// awaitHeld waits until a job holds, or has ended without.
func (c *Client) awaitHeld(ctx context.Context, path dbus.ObjectPath) (held bool, err error) {
	err = c.conn.Object(api.BusName, path).CallWithContext(ctx, api.JobInterface+".WaitHeld", dbus.FlagNoAutoStart).Store(&held)
	if err != nil {
		return false, fromDBus(err)
	}
	return held, nil
}

func (c *Client) release(ctx context.Context, path dbus.ObjectPath, done bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	defer cancel()
	err := c.conn.Object(api.BusName, path).CallWithContext(ctx, api.JobInterface+".Release", dbus.FlagNoAutoStart, done).Err
	if err != nil {
		return fromDBus(err)
	}
	return nil
}

// waitHold waits for the end of a hold.
func (c *Client) waitHold(ctx context.Context, path dbus.ObjectPath) (*api.Manifest, error) {
	outcome, text, err := c.wait(ctx, path)
	if err != nil {
		return nil, err
	}
	if outcome != "ok" {
		return nil, ended(ctx, outcome, text)
	}
	var m api.Manifest
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return nil, api.Errorf(api.Failed, "cannot read the result of Quiesce: %w", err)
	}
	return &m, nil
}

// quiesceOptions writes a request as the options of the method Quiesce.
func quiesceOptions(r api.QuiesceRequest) map[string]dbus.Variant {
	o := map[string]dbus.Variant{"for_ns": dbus.MakeVariant(uint64(max(r.For, 0)))}
	put := func(key string, set bool, value any) {
		if set {
			o[key] = dbus.MakeVariant(value)
		}
	}
	put("policy", r.Policy != "", r.Policy)
	put("volumes", len(r.Volumes) > 0, r.Volumes)
	put("writers", len(r.Writers) > 0, r.Writers)
	put("writers_only", r.WritersOnly, true)
	put("consistency", r.Consistency != "", string(r.Consistency))
	put("fail_if_busy", r.FailIfBusy, true)
	return o
}
