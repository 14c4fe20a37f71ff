package client

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
)

// cancelTimeout bounds the request to cancel a job; the job's end is then waited for without a limit, because the undo
// must not be left alone.
const cancelTimeout = 10 * time.Second

// CreateSet takes a set, or plans it. Progress, if not nil, is called with each phase that the daemon tells of; phases
// that pass too quickly are left out. When ctx ends, the set is cancelled, and CreateSet returns after it was undone:
// with an error of class Cancelled, or Timeout if a deadline was the reason.
func (c *Client) CreateSet(ctx context.Context, r api.Request, progress func(phase string)) (*api.Manifest, error) {
	return runJob[*api.Manifest](ctx, c, progress, "CreateSet", requestOptions(r))
}

// DeleteSet deletes a set.
func (c *Client) DeleteSet(ctx context.Context, ref string) error {
	_, err := runJob[any](ctx, c, nil, "DeleteSet", ref)
	return err
}

// MountSet mounts a set and says where.
func (c *Client) MountSet(ctx context.Context, ref string, o api.MountOptions) ([]api.Mount, error) {
	options := map[string]dbus.Variant{}
	if o.Writable {
		options["writable"] = dbus.MakeVariant(true)
	}
	if o.Target != "" {
		options["target"] = dbus.MakeVariant(o.Target)
	}
	return runJob[[]api.Mount](ctx, c, nil, "MountSet", ref, options)
}

// UmountSet unmounts a set.
func (c *Client) UmountSet(ctx context.Context, ref string) error {
	_, err := runJob[any](ctx, c, nil, "UmountSet", ref)
	return err
}

// ResizeSet grows copy-on-write areas of a set and returns the volumes that were meant.
func (c *Client) ResizeSet(ctx context.Context, ref string, o api.ResizeOptions) ([]api.Snapshot, error) {
	options := map[string]dbus.Variant{"size_bytes": dbus.MakeVariant(o.Size)}
	if o.Volume != "" {
		options["volume"] = dbus.MakeVariant(o.Volume)
	}
	if o.Grow {
		options["grow"] = dbus.MakeVariant(true)
	}
	return runJob[[]api.Snapshot](ctx, c, nil, "ResizeSet", ref, options)
}

// MeasurePool is ShowPool with the share of each snapshot.
func (c *Client) MeasurePool(ctx context.Context, name string) (*api.PoolDetails, error) {
	return runJob[*api.PoolDetails](ctx, c, nil, "MeasurePool", name)
}

// ExtendPool extends a thin pool and returns it as it is then.
func (c *Client) ExtendPool(ctx context.Context, name string, o api.ExtendOptions) (*api.Pool, error) {
	options := map[string]dbus.Variant{}
	if o.Size > 0 {
		options["size_bytes"] = dbus.MakeVariant(o.Size)
	} else {
		options["percent"] = dbus.MakeVariant(o.Percent)
	}
	if o.Metadata {
		options["metadata"] = dbus.MakeVariant(true)
	}
	return runJob[*api.Pool](ctx, c, nil, "ExtendPool", name, options)
}

// PrunePolicy deletes the sets of a policy that its retention does not keep. What could not be deleted says so in its verdict.
func (c *Client) PrunePolicy(ctx context.Context, policy string) ([]api.Verdict, error) {
	return runJob[[]api.Verdict](ctx, c, nil, "PrunePolicy", policy)
}

// VerifySet looks whether a set can be used; that it cannot is a result. Progress is as for CreateSet.
func (c *Client) VerifySet(ctx context.Context, ref string, progress func(phase string)) (*api.Verification, error) {
	return runJob[*api.Verification](ctx, c, progress, "VerifySet", ref)
}

// ReportSet says how the backup of a set went. The daemon knows by whom.
func (c *Client) ReportSet(ctx context.Context, ref string, o api.ReportOptions) (*api.Report, error) {
	options := map[string]dbus.Variant{"outcome": dbus.MakeVariant(o.Outcome)}
	if o.Force {
		options["force"] = dbus.MakeVariant(true)
	}
	return runJob[*api.Report](ctx, c, nil, "ReportSet", ref, options)
}

// PinSet keeps a set, whatever its policy's retention says.
func (c *Client) PinSet(ctx context.Context, ref string) error {
	_, err := runJob[any](ctx, c, nil, "PinSet", ref)
	return err
}

// UnpinSet lets a set go that was pinned.
func (c *Client) UnpinSet(ctx context.Context, ref string) error {
	_, err := runJob[any](ctx, c, nil, "UnpinSet", ref)
	return err
}

// TestWriter takes a writer through all phases, without a snapshot. A writer that misbehaves is a result, not an error.
func (c *Client) TestWriter(ctx context.Context, r api.WriterTestRequest, progress func(phase string)) (*api.WriterTest, error) {
	options := map[string]dbus.Variant{}
	if r.Policy != "" {
		options["policy"] = dbus.MakeVariant(r.Policy)
	}
	if r.FailIfBusy {
		options["fail_if_busy"] = dbus.MakeVariant(true)
	}
	return runJob[*api.WriterTest](ctx, c, progress, "TestWriter", r.Writer, options)
}

// requestOptions writes a request as the options of the method CreateSet.
func requestOptions(r api.Request) map[string]dbus.Variant {
	o := map[string]dbus.Variant{}
	put := func(key string, set bool, value any) {
		if set {
			o[key] = dbus.MakeVariant(value)
		}
	}
	put("policy", r.Policy != "", r.Policy)
	put("volumes", len(r.Volumes) > 0, r.Volumes)
	put("writers", len(r.Writers) > 0, r.Writers)
	put("provider", r.Provider != "", r.Provider)
	put("providers", len(r.Providers) > 0, r.Providers)
	put("consistency", r.Consistency != "", string(r.Consistency))
	put("fail_if_busy", r.FailIfBusy, true)
	put("dry_run", r.DryRun, true)
	put("retry", r.Retry > 0, uint32(max(r.Retry, 0)))
	put("retry_wait_ns", r.RetryWait > 0, uint64(max(r.RetryWait, 0)))
	put("method", r.Method != "", r.Method)
	put("clone_directory", r.Clone.Directory != "", r.Clone.Directory)
	put("clone_rate_bytes", r.Clone.Rate > 0, r.Clone.Rate)
	put("clone_keep", r.Clone.Keep, true)
	put("clone_no_wait", r.Clone.NoWait, true)
	put("labels", len(r.Labels) > 0, r.Labels)
	return o
}

// runJob starts a job and waits for its end. The end is learned from the job's method Wait and not from its signal: the
// answer cannot be missed, and the bus itself answers if the daemon dies.
func runJob[T any](ctx context.Context, c *Client, progress func(string), method string, args ...any) (T, error) {
	var result T
	path, err := c.startJob(ctx, method, args...)
	if err != nil {
		return result, err
	}
	if progress != nil {
		stop := c.watchPhases(ctx, path, progress)
		defer stop()
	}
	outcome, text, err := c.wait(ctx, path)
	if err != nil {
		return result, err
	}
	if outcome != "ok" {
		return result, ended(ctx, outcome, text)
	}
	if text != "" {
		if err := json.Unmarshal([]byte(text), &result); err != nil {
			return result, api.Errorf(api.Failed, "cannot read the result of %s: %w", method, err)
		}
	}
	return result, nil
}

// A daemon that reads its configuration anew takes no jobs for a moment.
const (
	reloadPatience = 5 * time.Second
	reloadPause    = 100 * time.Millisecond
)

// startJob calls a method that answers with a job.
func (c *Client) startJob(ctx context.Context, method string, args ...any) (path dbus.ObjectPath, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for end := time.Now().Add(reloadPatience); ; {
		err := c.call(ctx, method, args...).Store(&path)
		if err == nil {
			return path, nil
		}
		if err = fromDBus(err); api.Of(err) != api.Busy || time.Now().After(end) {
			return "", err
		}
		select {
		case <-time.After(reloadPause):
		case <-ctx.Done():
			return "", err
		}
	}
}

// ended is the error of a job that did not do what it was asked.
func ended(ctx context.Context, outcome, text string) error {
	class := api.Class(outcome)
	if class == api.Cancelled && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return api.Errorf(api.Timeout, "the set was not made in the time allowed: %s", text)
	}
	return &api.Error{Class: class, Err: errors.New(text)}
}

// wait for the end of a job: its outcome, and its result or its error's text. When ctx ends, the job is cancelled, and
// still waited for.
func (c *Client) wait(ctx context.Context, path dbus.ObjectPath) (outcome, text string, err error) {
	job := c.conn.Object(api.BusName, path)
	call := job.Go(api.JobInterface+".Wait", dbus.FlagNoAutoStart, make(chan *dbus.Call, 1))
	select {
	case <-call.Done:
	case <-ctx.Done():
		short, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
		defer cancel()
		if err := job.CallWithContext(short, api.JobInterface+".Cancel", dbus.FlagNoAutoStart).Err; err != nil {
			return "", "", fromDBus(err)
		}
		<-call.Done
	}
	var errText, result string
	if err := call.Store(&outcome, &errText, &result); err != nil {
		return "", "", fromDBus(err)
	}
	if outcome != "ok" {
		return outcome, errText, nil
	}
	return outcome, result, nil
}

// watchPhases calls progress with the phases of a job, until stop is called. Where the bus does not let this user hear
// signals there is no progress to be told, and that is all.
func (c *Client) watchPhases(ctx context.Context, path dbus.ObjectPath, progress func(string)) (stop func()) {
	match := []dbus.MatchOption{
		dbus.WithMatchSender(api.BusName),
		dbus.WithMatchInterface("org.freedesktop.DBus.Properties"),
		dbus.WithMatchMember("PropertiesChanged"),
		dbus.WithMatchObjectPath(path),
	}
	short, cancel := context.WithTimeout(ctx, cancelTimeout)
	defer cancel()
	if err := c.conn.AddMatchSignalContext(short, match...); err != nil {
		return func() {}
	}
	signals := make(chan *dbus.Signal, 64)
	c.conn.Signal(signals)
	stopped, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		// The phase that began before the subscription; then those that are told of.
		last := c.phase(ctx, path)
		if last != "" {
			progress(last)
		}
		for {
			select {
			case <-stopped:
				return
			case s, ok := <-signals:
				if !ok {
					return
				}
				if phase := phaseOf(s); s.Path == path && phase != "" && phase != last {
					last = phase
					progress(phase)
				}
			}
		}
	}()
	return func() {
		c.conn.RemoveSignal(signals)
		close(stopped)
		<-done
		short, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
		defer cancel()
		_ = c.conn.RemoveMatchSignalContext(short, match...) // it ends with the connection anyway
	}
}

// phase of a job now, or empty.
func (c *Client) phase(ctx context.Context, path dbus.ObjectPath) string {
	ctx, cancel := context.WithTimeout(ctx, cancelTimeout)
	defer cancel()
	var v dbus.Variant
	err := invoke(ctx, c.conn.Object(api.BusName, path), "org.freedesktop.DBus.Properties.Get", api.JobInterface, "Phase").Store(&v)
	if err != nil {
		return ""
	}
	phase, _ := v.Value().(string)
	return phase
}

// phaseOf a PropertiesChanged signal of a job, or empty.
func phaseOf(s *dbus.Signal) string {
	if len(s.Body) < 2 {
		return ""
	}
	changed, _ := s.Body[1].(map[string]dbus.Variant)
	phase, _ := changed["Phase"].Value().(string)
	return phase
}
