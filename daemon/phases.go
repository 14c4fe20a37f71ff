package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/journal"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/fsfreeze/rescue"
	"github.com/fermata-project/fermata/hooks"
)

// transaction is one set on its way.
type transaction struct {
	daemon   *Daemon
	id       string
	policy   effective
	log      *slog.Logger
	begun    time.Time
	progress func(string)
	journal  *journal.Journal
	phase    string // guarded by daemon.mu
	failure  error  // why it is being rolled back
	failedIn string // the step that failed
	manifest api.Manifest

	plan    plan
	systems map[uint64]Filesystem // opened, by device number
	raw     []flushed             // volumes that hold no mounted filesystem
	writers *hooks.Group
	parts   []provider.Enlistment
	opened  []*patientSet // whose images are not sealed
	win     *window
	frozen  *Frozen      // what the daemon is told of it
	test    bool         // of a writer: nothing is captured
	hold    [2]time.Time // the writers, from and to
	quiet   *quiet       // nil: a set is taken
	dry     bool         // it is only planned
	written written      // to its volumes, before it
}

// held is what a later start, or the panic verb, has to release if this daemon dies in the window.
type (
	held   = rescue.Held
	heldFS = rescue.HeldFilesystem
)

func (t *transaction) held() any {
	h := held{Devices: t.origins()}
	for _, f := range t.plan.filesystems() {
		h.Filesystems = append(h.Filesystems, heldFS{Point: f.Point(), Dev: f.Dev})
	}
	return h
}

func (t *transaction) origins() []uint64 {
	var devs []uint64
	for _, p := range t.parts {
		for _, o := range p.Origins() {
			devs = append(devs, uint64(o))
		}
	}
	return devs
}

// resolve finds out what is to be captured, by whom, and whether there is room. It touches nothing.
func (t *transaction) resolve(ctx context.Context) (err error) {
	ctx, cancel := t.withPrepareLimit(ctx)
	defer cancel()
	if t.plan, err = t.daemon.resolved(ctx, t.policy); err != nil {
		return classed(api.Invalid, err)
	}
	for dev, name := range t.plan.flushed() {
		if err := t.daemon.calls.left(flushKey(dev)); err != nil {
			return api.Errorf(api.Refused, "cannot take %s: %w", name, err)
		}
	}
	shares := t.plan.shares(t.daemon.o.Providers)
	if err := apart(shares); err != nil {
		return classed(api.Refused, fmt.Errorf("cannot take a set: %w", err))
	}
	for _, s := range shares {
		if err := t.daemon.admit(ctx, s.provider, s.volumes); err != nil {
			return classed(api.Refused, fmt.Errorf("cannot take a set: %w", err))
		}
	}
	if err := t.poolsAllow(); err != nil {
		return err
	}
	if err := t.daemon.admitClone(ctx, t.policy, t.plan); err != nil {
		return err
	}
	t.manifest.Volumes = t.plan.snapshots()
	return nil
}

// open opens the filesystems, flushes them, and hands them to the guard. The guard has them before the next step is
// journalled: whoever starts after our death then knows that what a live guard has left no note of was not ours.
func (t *transaction) open(ctx context.Context) (err error) {
	limited, cancel := t.withPrepareLimit(ctx)
	defer cancel()
	t.systems = map[uint64]Filesystem{}
	for _, f := range t.plan.filesystems() {
		s, err := t.daemon.open(limited, f)
		if err != nil {
			return err
		}
		t.systems[f.Dev] = s
		if err := t.daemon.flush(limited, flushed{s, f.Dev, s.Point()}); err != nil {
			return err
		}
	}
	for _, m := range t.plan.members {
		if m.fs != nil {
			continue
		}
		s, err := t.daemon.openDevice(limited, uint64(m.vol.Dev), m.vol.Name)
		if err != nil {
			return err
		}
		t.raw = append(t.raw, flushed{s, uint64(m.vol.Dev), m.vol.Name})
	}
	if len(t.systems) == 0 {
		return nil
	}
	t.win = t.newWindow(t.policy.Limits.Freeze)
	return t.win.enter(ctx)
}

// probe freezes each filesystem for a moment. That somebody else has frozen one can be learned in no other way, and must
// be known before LVM is asked to snapshot it: its own freeze would fail on Linux 5.10 and 6.1, and leave the volume
// unmountable on 6.12 (docs/adr/0002).
func (t *transaction) probe(context.Context) error {
	if t.win == nil {
		return nil
	}
	return t.win.probe()
}

// close closes what open opened.
func (t *transaction) close(ctx context.Context) error {
	errs := []error{t.leaveWindow(ctx)}
	for _, s := range t.flushed() {
		errs = append(errs, t.daemon.calls.after(flushKey(s.dev), s.Close))
	}
	t.systems, t.raw = nil, nil
	return errors.Join(errs...)
}

func (t *transaction) prepareWriters(ctx context.Context) error {
	var members []hooks.Writer
	for _, c := range t.policy.writers {
		w, err := t.daemon.o.NewWriter(c)
		if err != nil {
			return errors.Join(err, hooks.NewGroup(members, hooks.Event{}, 0).Close())
		}
		members = append(members, w)
	}
	ev := hooks.Event{Set: t.id, Policy: t.policy.Name, DryRun: t.test, Volumes: t.plan.told()}
	t.writers = hooks.NewGroup(members, ev, t.policy.Limits.Writers)
	ctx, cancel := t.withPrepareLimit(ctx)
	defer cancel()
	return classed(api.Failed, t.writers.Prepare(ctx))
}

func (t *transaction) abortWriters(ctx context.Context) error {
	if t.writers == nil {
		return nil
	}
	return errors.Join(t.writers.Abort(ctx, t.outcome()), t.writers.Close())
}

func (t *transaction) postWriters(ctx context.Context) error {
	return errors.Join(t.writers.Post(ctx, t.outcome()), t.writers.Close())
}

// arm makes the providers do everything that is slow.
func (t *transaction) arm(ctx context.Context) error {
	set := provider.Set{ID: t.id, Policy: t.policy.Name, Members: t.plan.size()}
	ctx, cancel := t.withPrepareLimit(ctx)
	defer cancel()
	ctx = t.tellArmed(ctx)
	for _, s := range t.plan.shares(t.daemon.o.Providers) {
		part, err := t.daemon.prepare(ctx, s.provider, set, s.volumes)
		if part != nil {
			t.parts = append(t.parts, part)
		}
		if err != nil {
			return classed(api.Failed, err)
		}
		if _, ok := part.Enlistment.(provider.Opener); !ok && t.mustRecover() != "" {
			return api.Errorf(api.Refused, "cannot take a set: writer %s recovers its data on the snapshots, and those of provider %s cannot be written to (let another one take %s, or take recover from the writer)",
				t.mustRecover(), s.provider.Name(), s.volumes[0].Name)
		}
		if err := t.plan.held(s.provider, part.Origins()); err != nil {
			return classed(api.Refused, err)
		}
	}
	return nil
}

// tellArmed tells the requester how many of several snapshots are armed: that takes one LVM command for each.
func (t *transaction) tellArmed(ctx context.Context) context.Context {
	var armed atomic.Int64
	all := int64(t.plan.size())
	return provider.WithArmed(ctx, func() {
		if n := armed.Add(1); t.progress != nil && all > 1 && ctx.Err() == nil {
			t.progress(fmt.Sprintf("arm %d%%", 100*n/all))
		}
	})
}

func (t *transaction) disarm(ctx context.Context) error {
	ctx, cancel := t.daemon.within(ctx, t.daemon.undoLimit)
	defer cancel()
	var errs []error
	for _, p := range t.parts {
		errs = append(errs, p.Abort(ctx))
	}
	return t.daemon.left(t.id, errors.Join(errs...))
}

// flush writes out what is dirty, until little is left for the freeze to write.
func (t *transaction) flush(ctx context.Context) error {
	ctx, cancel := t.withPrepareLimit(ctx)
	defer cancel()
	flush := t.daemon.o.Config.Daemon.Preflush
	for _, s := range t.flushed() {
		for range flush.Rounds {
			begin := time.Now()
			if err := t.daemon.flush(ctx, s); err != nil {
				return err
			}
			if time.Since(begin) <= flush.Until {
				break
			}
		}
	}
	return nil
}

// flushed are everything that can have something dirty in memory.
func (t *transaction) flushed() []flushed {
	var out []flushed
	for _, dev := range slices.Sorted(maps.Keys(t.systems)) {
		out = append(out, flushed{t.systems[dev], dev, t.systems[dev].Point()})
	}
	return append(out, t.raw...)
}

func (t *transaction) freezeWriters(ctx context.Context) error {
	if err := t.writers.Freeze(ctx); err != nil {
		return classed(api.Failed, err)
	}
	t.hold[0] = time.Now()
	ctx, cancel := t.withHoldLimit(ctx)
	defer cancel()
	for _, s := range t.flushed() { // what the writers wrote to get ready
		if err := t.daemon.flush(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (t *transaction) thawWriters(ctx context.Context) error {
	if t.writers == nil {
		return nil
	}
	t.hold[1] = time.Now()
	err := errors.Join(t.writers.Thaw(ctx, t.outcome()), t.daemon.releaseUnits(context.WithoutCancel(ctx)))
	if errors.Is(err, hooks.ErrHoldLost) {
		return classed(api.Broken, err)
	}
	return classed(api.Failed, err)
}

// enterWindow takes the pools' locks, locks the memory and arms the guard: after it everything is ready.
func (t *transaction) enterWindow(ctx context.Context) error {
	t.win = t.newWindow(t.windowLimit())
	t.win.parts = t.parts
	if err := t.countWrites(); err != nil {
		return err
	}
	ctx, cancel := t.withHoldLimit(ctx)
	defer cancel()
	return t.win.enter(ctx)
}

func (t *transaction) leaveWindow(context.Context) error {
	if t.win == nil {
		return nil
	}
	return t.win.close()
}

// unguard leaves the window after a hold. What fails now is evidence: verify decides what it means.
func (t *transaction) unguard(ctx context.Context) error {
	t.win.evidence.guardErr = t.leaveWindow(ctx)
	return nil
}

// window is the freeze window: see window.go.
func (t *transaction) window(context.Context) error {
	return t.whileFrozen(func() error { return t.win.capture(t.writers.Holding) })
}

// whileFrozen runs the window around act, and puts into the manifest what happened when.
func (t *transaction) whileFrozen(act func() error) error {
	t.frozen = &Frozen{Filesystems: len(t.systems), Since: time.Now()}
	t.daemon.frozen.Store(t.frozen)
	err := t.win.run(func() error { return t.win.hold(act) })
	if t.win.stuck {
		return err
	}
	t.daemon.frozen.Store(nil)
	t.manifest.Phases = append(t.manifest.Phases, t.win.phases(t.begun)...)
	t.manifest.Window, t.manifest.Created = t.win.length(), t.win.instant.UTC()
	return err
}

func (t *transaction) verify(ctx context.Context) error {
	for _, p := range t.parts {
		t.win.evidence.providers = append(t.win.evidence.providers, p.Verify())
	}
	if err := t.win.evidence.verdict(); err != nil {
		return err
	}
	if err := t.writers.StillInactive(ctx); err != nil {
		return classed(api.Broken, err)
	}
	return t.claim()
}

// claim puts into the manifest what the set can claim, and says whether that is enough.
func (t *transaction) claim() error {
	got, reasons := claim(t.plan, t.policy, t.writers.States(), t.writers.Reasons())
	t.manifest.Consistency, t.manifest.Reasons = got, reasons
	t.manifest.Writers = t.writerRecords()
	return acceptable(got, reasons, t.policy)
}

// finalise makes the set visible. Its last act is the point of no return: before it a crash removes the set, after it a
// crash keeps it.
func (t *transaction) finalise(ctx context.Context) error {
	ctx, cancel := t.daemon.within(ctx, t.daemon.changeLimit)
	defer cancel()
	f := provider.Final{Consistency: string(t.manifest.Consistency), Created: t.manifest.Created.UnixMicro()}
	for _, p := range volatileFirst(t.parts) {
		snaps, err := p.Finalize(ctx, f)
		if err != nil {
			return classed(api.Failed, err)
		}
		for _, s := range snaps {
			t.made(s)
			if len(s.Omits) > 0 {
				t.log.Warn("the snapshot does not have all that is seen at its mount point", "volume", s.Origin, "mount_point", s.MountPoint, "omits", s.Omits)
			}
		}
	}
	t.manifest.State = api.Complete
	for i := range t.manifest.Volumes {
		t.manifest.Volumes[i].Refused = nil // that was for the plan
	}
	return nil
}

// made takes down what only a finished snapshot tells.
func (t *transaction) made(s provider.Snapshot) {
	for i := range t.manifest.Volumes {
		if v := &t.manifest.Volumes[i]; v.Volume == s.Origin {
			v.Name, v.Volatile, v.Omits = s.Name, s.Volatile, s.Omits
		}
	}
}

func (t *transaction) withPrepareLimit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithDeadlineCause(ctx, t.begun.Add(t.policy.Limits.Prepare),
		fmt.Errorf("not prepared within %v: %w", t.policy.Limits.Prepare, context.DeadlineExceeded))
}

// withHoldLimit is for what happens while the writers hold: neither a disk nor somebody else's long LVM command must keep
// them so.
func (t *transaction) withHoldLimit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithDeadlineCause(ctx, t.hold[0].Add(t.policy.Limits.Writers),
		fmt.Errorf("the writers have held for %v: %w", t.policy.Limits.Writers, context.DeadlineExceeded))
}

// newWindow prepares a window over the opened filesystems.
func (t *transaction) newWindow(limit time.Duration) *window {
	w := &window{host: t.daemon.o.Host, set: t.id, names: windowPhases, limit: limit}
	if t.quiet != nil {
		w.names = quietPhases
	}
	for _, level := range t.plan.levels {
		var l []Filesystem
		for _, f := range level {
			l = append(l, t.systems[f.Dev])
		}
		w.levels = append(w.levels, l)
	}
	return w
}

// windowLimit is how long the guard lets the window last.
func (t *transaction) windowLimit() time.Duration {
	if t.quiet != nil {
		return t.quiet.limit
	}
	return t.policy.Limits.Freeze
}

// countWrites opens the write counter of every volume that is frozen.
func (t *transaction) countWrites() error {
	for _, m := range t.plan.members {
		if m.fs == nil || !m.freeze {
			continue
		}
		c, err := t.daemon.o.Host.OpenCounter(uint64(m.vol.Dev))
		if err != nil {
			return err
		}
		t.win.counters = append(t.win.counters, counter{Counter: c, volume: m.vol.Name})
	}
	return nil
}

// writerRecords are the writers' entries in the manifest of a set that was begun then; all held for as long.
func writerRecords(declared []config.Writer, g *hooks.Group, begun time.Time, hold api.Phase) []api.Writer {
	states := g.States()
	var out []api.Writer
	for _, c := range declared {
		w := describeWriter(c)
		w.State = string(states[c.Name])
		for _, r := range g.Results() {
			if r.Writer != c.Name {
				continue
			}
			p := api.Phase{Name: string(r.Phase), Duration: r.Duration}
			if !r.Began.IsZero() {
				p.Start = r.Began.Sub(begun)
			}
			if r.Err != nil {
				p.Error = r.Err.Error()
			}
			w.Phases = append(w.Phases, p)
			if r.Phase == hooks.PhaseFreeze && r.Err == nil {
				w.Phases = append(w.Phases, hold)
			}
			if len(r.Answer.Data) > 0 {
				if w.Data == nil {
					w.Data = map[string]any{}
				}
				w.Data[string(r.Phase)] = r.Answer.Data
			}
		}
		out = append(out, w)
	}
	return out
}

var _ Filesystem = (*fsfreeze.Handle)(nil)
