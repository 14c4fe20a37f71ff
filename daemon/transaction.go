package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/journal"
	"github.com/fermata-project/fermata/hooks"
)

// A step is one phase of the transaction. undo is called whenever do was, if this step or a later one fails: it must cope
// with a do that got nowhere, half-way or through, and with being called when there is nothing left to undo.
type step struct {
	name string
	do   func(context.Context) error
	undo func(context.Context) error
	// data is journalled before do: what a later start needs to know to undo it.
	data func() any
}

// steps are the phases of a set, in order.
func (t *transaction) steps() []step {
	steps := []step{
		{name: "resolve", do: t.resolve},
		{name: "open", do: t.open, undo: t.close},
		{name: "probe", do: t.probe, data: t.held},
		{name: "probed", do: t.leaveWindow},
		{name: "prepare-writers", do: t.prepareWriters, undo: t.abortWriters, data: t.asked},
		{name: "arm", do: t.arm, undo: t.disarm},
		{name: "flush", do: t.flush},
		{name: "freeze-writers", do: t.freezeWriters, undo: t.thawWriters},
		{name: "guard", do: t.enterWindow, undo: t.leaveWindow},
		{name: "window", do: t.window, data: t.held},
		{name: "unguard", do: t.unguard},
		{name: "thaw-writers", do: t.thawWriters},
		{name: "verify", do: t.verify},
		{name: "finalise", do: t.finalise},
	}
	if t.recovers() {
		steps = slices.Insert(steps, len(steps)-1, step{name: "recover", do: t.recoverImages, undo: t.sealImages})
	}
	return steps
}

// run takes the set: every step, or none.
func (t *transaction) run(ctx context.Context, steps []step) error {
	var begun []step
	for _, s := range steps {
		begun = append(begun, s)
		if t.failure = t.step(ctx, s); t.failure != nil {
			t.failedIn = s.name
			return errors.Join(t.failure, t.rollback(ctx, begun))
		}
	}
	return nil
}

// rollback undoes steps, the last one first. It does not stop at an error, and a requester cannot cancel it.
func (t *transaction) rollback(ctx context.Context, begun []step) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for i := len(begun) - 1; i >= 0; i-- {
		s := begun[i]
		if s.undo == nil {
			continue
		}
		t.daemon.turn.allow("the undoing of phase "+s.name+" of set "+t.id, t.longest())
		t.note(s.name, journal.Undoing, nil)
		err := s.undo(ctx)
		if err == nil {
			t.note(s.name, journal.Undone, nil)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// step runs one step: intent, act, outcome.
func (t *transaction) step(ctx context.Context, s step) error {
	if err := context.Cause(ctx); err != nil {
		return api.Errorf(classOf(err, api.Cancelled), "cancelled before %s: %w", s.name, err)
	}
	if t.progress != nil {
		t.progress(s.name)
	}
	t.setPhase(s.name)
	t.daemon.turn.allow("phase "+s.name+" of set "+t.id, t.longest())
	var data any
	if s.data != nil {
		data = s.data()
	}
	if err := t.journal.Write(s.name, journal.Doing, data); err != nil {
		return err
	}
	start := time.Since(t.begun)
	err := s.do(ctx)
	p := api.Phase{Name: s.name, Start: start, Duration: time.Since(t.begun) - start}
	if err != nil {
		p.Error = err.Error()
	}
	t.manifest.Phases = append(t.manifest.Phases, p)
	switch {
	case err != nil && t.stuck(): // it has not failed yet: see forget
		return err
	case err != nil:
		t.note(s.name, journal.Failed, nil)
		return err
	}
	t.note(s.name, journal.Done, nil)
	return nil
}

// stuck reports whether the kernel has not come back from the freeze window.
func (t *transaction) stuck() bool { return t.win != nil && t.win.stuck }

// forget removes the journal of a set that has failed and is undone. While a freeze is stuck in the kernel that must wait: should
// this daemon and the guard die, nothing else would tell the next start, or the panic verb, what to release.
func (t *transaction) forget() error {
	if !t.stuck() {
		return t.journal.Remove()
	}
	go func() {
		<-t.win.over
		errs := []error{t.journal.Remove()}
		for _, f := range slices.Concat(t.win.levels...) {
			errs = append(errs, f.Close())
		}
		t.daemon.frozen.CompareAndSwap(t.frozen, nil)
		if err := errors.Join(errs...); err != nil {
			t.log.Error("what was stuck in the kernel is released, but", "error", err)
			return
		}
		t.log.Warn("what was stuck in the kernel is released")
	}()
	return nil
}

// longest is longer than any phase takes, whatever of it is done one after the other.
func (t *transaction) longest() time.Duration {
	most := turnLimit + t.policy.Limits.Prepare + t.policy.Limits.Writers + t.policy.Limits.Freeze
	for _, w := range t.policy.writers {
		x := w.Timeouts
		most += x.Prepare + x.Freeze + x.Thaw + x.Abort + x.Post + x.Recover
	}
	return most // a hold without a snapshot is shorter than the rest
}

// note journals an outcome. A journal that cannot be written any more does not stop an undo.
func (t *transaction) note(step string, s journal.State, data any) {
	if err := t.journal.Write(step, s, data); err != nil {
		t.log.Error("the journal cannot be written", "step", step, "state", s, "error", err)
	}
}

// outcome is what writers are told.
func (t *transaction) outcome() hooks.Outcome {
	switch {
	case t.failure == nil && t.quiet != nil && t.quiet.wasted:
		return hooks.OutcomeFailed
	case t.failure == nil && (t.win == nil || t.win.evidence.clean()):
		return hooks.OutcomeOK
	case api.Of(t.failure) == api.Timeout:
		return hooks.OutcomeTimeout
	}
	return hooks.OutcomeFailed
}

// classOf is the class of an error that ended something: a time limit, or what is given.
func classOf(err error, otherwise api.Class) api.Class {
	var e *api.Error
	switch {
	case errors.As(err, &e):
		return e.Class
	case errors.Is(err, context.DeadlineExceeded):
		return api.Timeout
	case errors.Is(err, context.Canceled):
		return api.Cancelled
	}
	return otherwise
}

// classed gives err a class, unless it has one already; nil stays nil.
func classed(c api.Class, err error) error {
	if err == nil {
		return nil
	}
	return &api.Error{Class: classOf(err, c), Err: err}
}

// CreateSet takes a set, or plans it, and tries again where that can help.
func (d *Daemon) CreateSet(ctx context.Context, r api.Request, progress func(string)) (*api.Manifest, error) {
	began := time.Now()
	m, err := d.createSet(ctx, r, progress)
	if !r.DryRun {
		d.ran(r.Policy, began, m, err)
	}
	return m, err
}

func (d *Daemon) createSet(ctx context.Context, r api.Request, progress func(string)) (*api.Manifest, error) {
	policy, err := d.policy(&r)
	if err == nil && len(policy.Volumes) == 0 {
		err = api.Errorf(api.Invalid, "cannot take a set of writers alone: name a policy or volumes")
	}
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		m, err := d.createOnce(ctx, r, policy, progress)
		if err == nil && policy.Method == config.MethodClone && !r.DryRun {
			m.Passing = r.Passing
			return d.cloneSet(ctx, *m, policy.Clone, !r.Clone.NoWait, progress)
		}
		if err == nil || try >= r.Retry || !api.Of(err).Retryable() {
			return m, err
		}
		d.o.Log.Warn("trying again", "try", try+1, "of", r.Retry, "error", err)
		select {
		case <-time.After(r.RetryWait):
		case <-ctx.Done():
			return nil, errors.Join(err, api.Errorf(api.Cancelled, "cancelled before trying again: %w", context.Cause(ctx)))
		}
	}
}

func (d *Daemon) newTransaction(policy effective, progress func(string)) *transaction {
	t := &transaction{daemon: d, policy: policy, progress: progress, begun: time.Now()}
	t.id = newID(t.begun)
	t.log = d.o.Log.With(slog.String("FERMATA_SET", t.id))
	t.manifest = api.Manifest{Version: 1, ID: t.id, Policy: policy.Name, Host: hostname(), Kernel: kernelRelease(), Labels: policy.Labels}
	return t
}

// begin opens t's journal and shows t to the status; end takes it from there, and notes how its writers did.
func (t *transaction) begin() (end func(), err error) {
	d := t.daemon
	if t.journal, err = journal.Create(d.journalDir(), t.id); err != nil {
		return nil, err
	}
	d.setRunning(t)
	return func() {
		t.remember()
		d.setRunning(nil)
	}, nil
}

func (d *Daemon) createOnce(ctx context.Context, r api.Request, policy effective, progress func(string)) (*api.Manifest, error) {
	release, err := d.turn.take(ctx, r.FailIfBusy)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := d.tidy(ctx, policy.Limits.Prepare); err != nil {
		d.o.Log.Error("what an earlier set has left cannot be removed", "error", err)
	}
	if n, limit := d.count(), d.o.Config.Daemon.Limits.Sets; n >= limit {
		return nil, api.Errorf(api.Refused, "cannot take a set: %d exist, and limits.sets allows %d (delete some: fermata snapshot delete ID)", n, limit)
	}
	t := d.newTransaction(policy, progress)
	t.manifest.Passing = r.Passing && policy.Method != config.MethodClone // of a copy that fails, the set stays
	if r.DryRun {
		d.turn.allow("the plan of a set", t.longest())
		return t.dryRun(ctx)
	}
	end, err := t.begin()
	if err != nil {
		return nil, err
	}
	defer end()

	if err := t.run(ctx, t.steps()); err != nil {
		t.log.Error("no set was taken", "policy", policy.Name, "phase", t.failedIn, "class", api.Of(err), "error", err)
		t.ended(err)
		err = errors.Join(err, t.forget())
		if len(t.parts) > 0 { // else no provider has done anything
			err = errors.Join(err, d.refreshAfter(ctx))
		}
		return nil, err
	}
	t.manifest.Duration = time.Since(t.begun)
	d.rememberWritten(t.plan, t.written)
	t.log.Info("set taken", "policy", policy.Name, "consistency", t.manifest.Consistency, "freeze_window", t.manifest.Window)
	// From here on the set is finished. What fails now is told, but takes nothing back, and nobody can cancel it.
	d.turn.allow("the end of set "+t.id, t.longest())
	ctx = context.WithoutCancel(ctx)
	err = errors.Join(d.store.Save(t.manifest), t.postWriters(ctx), t.close(ctx), t.journal.Remove(), d.list(ctx, t))
	if err != nil {
		t.log.Warn("the set is finished, but", "error", err)
		t.manifest.Reasons = append(t.manifest.Reasons, afterwards(err))
	}
	t.ended(nil)
	return &t.manifest, nil
}

// afterwards is a reason that takes nothing back.
func afterwards(err error) string { return fmt.Sprintf("after the set was finished: %v", err) }

// list lists the sets, with the new one. That it is not among them whole is an error, that those of other providers cannot be
// listed is not its own.
func (d *Daemon) list(ctx context.Context, t *transaction) error {
	err := d.refreshAfter(ctx)
	if m, _, findErr := d.find(t.id); err != nil && findErr == nil && m.State == api.Complete {
		t.log.Warn("the set is finished, but", "error", err)
		return nil
	}
	return err
}
