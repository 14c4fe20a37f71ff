package client

import (
	"context"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
)

// Jobs are those that run, and those that have ended a moment ago, oldest first.
func (c *Client) Jobs(ctx context.Context) ([]api.Job, error) {
	return get[[]api.Job](ctx, c, "ListJobs")
}

// Job is one of them.
func (c *Client) Job(ctx context.Context, number uint64) (*api.Job, error) {
	jobs, err := c.Jobs(ctx)
	if err != nil {
		return nil, err
	}
	for i := range jobs {
		if jobs[i].Number == number {
			return &jobs[i], nil
		}
	}
	return nil, api.Errorf(api.NotFound, "there is no job %d: one that has ended is kept for a minute; see fermata job list", number)
}

// WaitJob waits until a job has ended, whoever started it. When ctx ends, the job goes on.
func (c *Client) WaitJob(ctx context.Context, number uint64, progress func(phase string)) (*api.Job, error) {
	path := jobPath(number)
	if progress != nil {
		stop := c.watchPhases(ctx, path, progress)
		defer stop()
	}
	call := c.conn.Object(api.BusName, path).CallWithContext(ctx, api.JobInterface+".Wait", dbus.FlagNoAutoStart|dbus.FlagAllowInteractiveAuthorization)
	if call.Err != nil {
		if ctx.Err() != nil {
			return nil, api.Errorf(api.Cancelled, "not waited for any more; the job goes on: %w", context.Cause(ctx))
		}
		return nil, fromDBus(call.Err)
	}
	return c.Job(ctx, number)
}

// CancelJob has a job undo what it has done, and end; it does not wait for that.
func (c *Client) CancelJob(ctx context.Context, number uint64) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := invoke(ctx, c.conn.Object(api.BusName, jobPath(number)), api.JobInterface+".Cancel").Err; err != nil {
		return fromDBus(err)
	}
	return nil
}

// StartCreate has a set taken, and does not wait: the job goes on when this client is gone.
func (c *Client) StartCreate(ctx context.Context, r api.Request) (job uint64, err error) {
	o := requestOptions(r)
	o["detach"] = dbus.MakeVariant(true)
	return c.start(ctx, "CreateSet", o)
}

// StartDelete has a set deleted, and does not wait.
func (c *Client) StartDelete(ctx context.Context, ref string) (job uint64, err error) {
	return c.start(ctx, "DeleteSet", ref)
}

// StartVerify has a set verified, and does not wait.
func (c *Client) StartVerify(ctx context.Context, ref string) (job uint64, err error) {
	return c.start(ctx, "VerifySet", ref)
}

func (c *Client) start(ctx context.Context, method string, args ...any) (uint64, error) {
	path, err := c.startJob(ctx, method, args...)
	if err != nil {
		return 0, err
	}
	number, err := strconv.ParseUint(strings.TrimPrefix(string(path), jobRoot), 10, 64)
	if err != nil {
		return 0, api.Errorf(api.Failed, "fermatad names a job %s: %w", path, err)
	}
	return number, nil
}

func jobPath(number uint64) dbus.ObjectPath {
	return dbus.ObjectPath(jobRoot + strconv.FormatUint(number, 10))
}
