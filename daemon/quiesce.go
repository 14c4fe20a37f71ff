package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/fsfreeze"
)

// quiet is what a transaction is for that holds without a snapshot.
type quiet struct {
	limit       time.Duration // of the whole window
	writersOnly bool
	hold        api.Hold
	wasted      bool // the requester has not done what it held this for
}

// quiesceSteps are the phases of a hold without a snapshot: those of a set, without what makes and keeps one.
func (t *transaction) quiesceSteps() []step {
	return []step{
		{name: "resolve", do: t.resolveQuiet},
		{name: "open", do: t.open, undo: t.close},
		{name: "probe", do: t.probe, data: t.held},
		{name: "probed", do: t.leaveWindow},
		{name: "prepare-writers", do: t.prepareWriters, undo: t.abortWriters, data: t.asked},
		{name: "flush", do: t.flush},
		{name: "freeze-writers", do: t.freezeWriters, undo: t.thawWriters},
		{name: "guard", do: t.enterWindow, undo: t.leaveWindow},
		{name: "window", do: t.quietWindow, data: t.held},
		{name: "unguard", do: t.unguard},
		{name: "thaw-writers", do: t.thawWriters},
		{name: "verify", do: t.verify},
	}
}

// Quiesce implements api.Quiescer.
func (d *Daemon) Quiesce(ctx context.Context, r api.QuiesceRequest, h api.Hold, progress func(string)) (*api.Manifest, error) {
	policy, err := d.quietPolicy(r)
	if err != nil {
		return nil, err
	}
	release, err := d.turn.take(ctx, r.FailIfBusy)
	if err != nil {
		return nil, err
	}
	defer release()
	t := d.newTransaction(policy, progress)
	t.quiet = &quiet{limit: r.For, writersOnly: r.WritersOnly, hold: h}
	end, err := t.begin()
	if err != nil {
		return nil, err
	}
	defer end()

	if err := t.run(ctx, t.quiesceSteps()); err != nil {
		t.log.Error("the hold did not last", "policy", policy.Name, "phase", t.failedIn, "class", api.Of(err), "error", err)
		return nil, errors.Join(err, t.forget())
	}
	t.manifest.State, t.manifest.Duration = api.Released, time.Since(t.begun)
	t.log.Info("held", "policy", policy.Name, "consistency", t.manifest.Consistency, "freeze_window", t.manifest.Window)
	d.turn.allow("the end of hold "+t.id, t.longest())
	last := t.postWriters
	if t.quiet.wasted {
		last = t.abortWriters
	}
	ctx = context.WithoutCancel(ctx)
	if err := errors.Join(last(ctx), t.close(ctx), t.journal.Remove()); err != nil {
		t.log.Warn("the hold lasted, but", "error", err)
		t.manifest.Reasons = append(t.manifest.Reasons, fmt.Sprintf("after the hold: %v", err))
	}
	return &t.manifest, nil
}

// quietPolicy makes the effective policy of a hold without a snapshot.
func (d *Daemon) quietPolicy(r api.QuiesceRequest) (effective, error) {
	invalid := func(format string, a ...any) (effective, error) {
		return effective{}, api.Errorf(api.Invalid, format, a...)
	}
	if r.For <= 0 || r.For > api.MaxHold {
		return invalid("cannot hold for %v: it must be more than 0, and %v at most", r.For, api.MaxHold)
	}
	if !r.WritersOnly && r.Policy == "" && len(r.Volumes) == 0 {
		return invalid("cannot hold nothing: name a policy or volumes, or ask for writers only")
	}
	policy, err := d.policy(&api.Request{Policy: r.Policy, Volumes: r.Volumes, Writers: r.Writers, Consistency: r.Consistency})
	if err != nil {
		return effective{}, err
	}
	policy.Method, policy.Retry = "", config.Retry{}
	if r.WritersOnly && len(policy.writers) == 0 {
		return invalid("cannot hold writers only: there are none")
	}
	return policy, nil
}

// resolveQuiet is resolve for volumes that nobody captures: it takes no provider and no room.
func (t *transaction) resolveQuiet(ctx context.Context) error {
	ctx, cancel := t.withPrepareLimit(ctx)
	defer cancel()
	var p plan
	x := call{key: "resolve", what: "a look at the volumes", fail: "look at the volumes"}
	err := t.daemon.calls.do(ctx, x, func() (err error) {
		p, err = t.daemon.quietPlan(t.policy, t.quiet.writersOnly)
		return err
	})
	if err != nil {
		return classed(api.Invalid, err)
	}
	t.plan = p
	for dev, name := range p.flushed() {
		if err := t.daemon.calls.left(flushKey(dev)); err != nil {
			return api.Errorf(api.Refused, "cannot hold %s: %w", name, err)
		}
	}
	t.manifest.Volumes = p.snapshots()
	return nil
}

func (d *Daemon) quietPlan(policy effective, writersOnly bool) (plan, error) {
	mounts, err := d.o.Host.Mounts()
	if err != nil {
		return plan{}, err
	}
	p, err := d.members(policy.Volumes, mounts)
	if err != nil {
		return plan{}, err
	}
	if writersOnly {
		return othersFreeze(p, mounts), nil
	}
	for i := range p.members {
		m := &p.members[i]
		m.covered = d.coverage(*m, policy.writers)
	}
	return p, p.order(mounts, d.o.Host.Stack)
}

// othersFreeze makes a plan one in which only writers hold: they are told the volumes, or all that there are.
func othersFreeze(p plan, mounts []fsfreeze.Mount) plan {
	points := p.mountPoints()
	if len(p.members) > 0 {
		return plan{others: points}
	}
	for _, f := range fsfreeze.Filesystems(mounts) {
		if !fsfreeze.Freezable(f.Type) {
			continue
		}
		for _, m := range f.Mounts {
			points = append(points, m.Point)
		}
	}
	return plan{others: points}
}

// lookInterval is how often a hold is looked after that is a requester's.
const lookInterval = 50 * time.Millisecond

// beforeGuard is how long before the guard's deadline the daemon lets go itself: the guard is for when it cannot.
const beforeGuard = 100 * time.Millisecond

// quietWindow is a freeze window that lasts until the requester releases it.
func (t *transaction) quietWindow(ctx context.Context) error {
	late := time.NewTimer(t.quiet.limit - min(t.quiet.limit/10, beforeGuard))
	defer late.Stop()
	look := time.NewTicker(lookInterval)
	defer look.Stop()
	return t.whileFrozen(func() error { return t.await(ctx, late.C, look.C) })
}

// await returns when the requester releases the hold, or when there is nothing left that it could rely on.
func (t *transaction) await(ctx context.Context, late, look <-chan time.Time) (err error) {
	w := t.win
	defer w.mark(2)
	w.instant = w.opened.Add(w.marks[1])
	t.tell("hold")
	defer t.tell("window")
	t.quiet.hold.Held()
	for {
		select {
		case done := <-t.quiet.hold.Release:
			t.quiet.wasted = !done
			w.prove(t.writers.Holding)
			return nil
		case <-look:
			if w.guard.Fired() {
				return api.Errorf(api.Broken, "the guard ended the hold before it was released")
			}
			if err := t.writers.Holding(); err != nil {
				return api.Errorf(api.Broken, "a writer let go before the hold was released: %w", err)
			}
		case <-late:
			return api.Errorf(api.Timeout, "the hold was not released within %v", t.quiet.limit)
		case <-ctx.Done():
			return api.Errorf(classOf(context.Cause(ctx), api.Cancelled), "the hold was cancelled: %w", context.Cause(ctx))
		}
	}
}

// tell is progress inside of a step.
func (t *transaction) tell(phase string) {
	if t.progress != nil {
		t.progress(phase)
	}
}
