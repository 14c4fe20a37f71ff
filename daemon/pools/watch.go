package pools

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/daemon/forecast"
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
)

// Source tells of devices that fill up: dm.Spaces.
type Source interface {
	All() (seen []dm.Space, unseen []dm.Dev, err error)
	One(dm.Dev) (dm.Space, error)
}

// Events wakes the watch: dm.Events.
type Events interface {
	Wait(context.Context) error
}

// Pool is what is known of a pool or a copy-on-write area.
type Pool struct {
	Name string // vg/lv, or as provider dm calls its snapshot, or the device's name
	dm.Space
	Level  Level // the worst of Parts
	Parts  Parts
	Reason string    // why it is at a level other than OK
	Since  time.Time // of the level
	Unseen bool      // it could not be looked at: all this is how it was before
	// How long it takes until Data and Metadata are full.
	DataLeft, MetadataLeft Left
}

// Left is a forecast: see forecast.Series.
type Left struct {
	Time  time.Duration // forecast.Never if it does not grow
	Known bool
}

// State is everything that was seen at an instant.
type State struct {
	Pools []Pool // by name
	Seen  time.Time
	Err   error // what could not be seen
}

// Change is a pool's step to another level.
type Change struct {
	Pool
	Was Level
}

// Watch follows the pools of the host.
type Watch struct {
	source Source
	events Events
	limits Limits
	report func(Change)
	log    *slog.Logger
	now    func() time.Duration // of a clock that never jumps

	state   atomic.Pointer[State]
	looked  chan struct{} // 1 deep: there is a new state
	wanted  chan chan struct{}
	ended   chan struct{} // closed when Run has ended
	tracked map[string]*tracked
	listed  time.Duration // when all devices were looked at
	missed  error         // why not all of them could be, then
	free    time.Duration // when it had ended to look
}

// tracked is one pool, by what it is rather than how it is called.
type tracked struct {
	Pool
	data, metadata forecast.Series
	pace           pace
	at, due        time.Duration
	here           bool
}

// New makes a watch; Run runs it. Report is called with each change of level, from the watch's goroutine: it must not
// block.
func New(source Source, events Events, limits Limits, report func(Change), log *slog.Logger) *Watch {
	return &Watch{source: source, events: events, limits: limits, report: report, log: log, now: boottime, tracked: map[string]*tracked{},
		looked: make(chan struct{}, 1), wanted: make(chan chan struct{}), ended: make(chan struct{})}
}

// Looked tells of each new state, to one listener. States that come faster than it listens are told of once.
func (w *Watch) Looked() <-chan struct{} { return w.looked }

// Refresh looks at all devices now, and returns when State tells of it.
func (w *Watch) Refresh(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case w.wanted <- done:
	case <-w.ended:
		return ErrEnded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-done:
		return nil
	case <-w.ended:
		return ErrEnded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ErrEnded: what is known of pools is how they were when Run ended.
var ErrEnded = errors.New("pools are not watched any more")

// State is what was seen last: nothing before Run has begun. It never waits.
func (w *Watch) State() State {
	if s := w.state.Load(); s != nil {
		return *s
	}
	return State{}
}

// Run watches until ctx ends. It runs once.
func (w *Watch) Run(ctx context.Context) error {
	defer close(w.ended)
	ctx, cancel := context.WithCancel(ctx)
	changed, ended := make(chan error), make(chan struct{})
	defer func() { cancel(); <-ended }()
	go func() { defer close(ended); follow(ctx, w.events, changed) }()
	w.all()
	var err error
	var refreshed chan struct{}
	for {
		w.publish(errors.Join(w.missed, err))
		if refreshed != nil {
			close(refreshed)
			refreshed = nil
		}
		t := time.NewTimer(w.next())
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case err := <-changed:
			t.Stop()
			if err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
			pause(ctx, settled)
		case refreshed = <-w.wanted:
			t.Stop()
		case <-t.C:
			if !w.overdue() {
				err = w.due()
				continue
			}
		}
		w.all()
		err = nil
	}
}

// troubled is when what could not be looked at is looked at again.
const troubled = 5 * time.Second

// All devices are listed again although no event came: a safety net, which is closer where not all could be looked at.
const (
	listedAgain = 10 * longest
	missedAgain = longest
)

// settled is how long events are gathered: a set raises dozens.
const settled = 50 * time.Millisecond

// follow tells of each event until ctx ends, or they cannot be told of any more.
func follow(ctx context.Context, events Events, changed chan<- error) {
	for err := error(nil); err == nil; {
		err = events.Wait(ctx)
		select {
		case changed <- err:
		case <-ctx.Done():
		}
	}
}

// overdue reports whether all devices should be listed again although no event came.
func (w *Watch) overdue() bool { return w.now() >= w.relist() }

// relist is when they should be.
func (w *Watch) relist() time.Duration {
	if w.missed != nil {
		return w.listed + missedAgain
	}
	return w.listed + listedAgain
}

// next is how long to sleep.
func (w *Watch) next() time.Duration {
	now := w.now()
	next := min(idle, w.relist()-now)
	for _, t := range w.tracked {
		next = min(next, t.due-now)
	}
	return max(next, settled)
}

// all looks at all devices anew. What could not be looked at stays as it was.
func (w *Watch) all() {
	began := w.now()
	spaces, unseen, err := w.source.All()
	w.tellLate(began, began)
	now := w.now()
	w.listed, w.missed = now, err
	for _, t := range w.tracked {
		if t.here = slices.Contains(unseen, t.Dev); t.here {
			t.unseen(now)
		}
	}
	for _, s := range spaces {
		t := w.tracked[identity(s)]
		if t == nil {
			t = &tracked{}
			t.Since = time.Now()
			w.tracked[identity(s)] = t
		}
		w.look(t, s, now)
	}
	maps.DeleteFunc(w.tracked, func(_ string, t *tracked) bool { return !t.here })
}

// unseen notes that it could not be looked at.
func (t *tracked) unseen(now time.Duration) { t.Unseen, t.due = true, now+troubled }

// due looks at what has to be looked at by now, or soon: so that many sleep together.
func (w *Watch) due() error {
	var errs []error
	now := w.now()
	planned := now
	defer func() { w.tellLate(planned, now) }()
	for id, t := range w.tracked {
		if t.due-now > (t.due-t.at)/4 {
			continue
		}
		planned = min(planned, t.due)
		switch s, err := w.source.One(t.Dev); {
		case err != nil && errors.Is(err, unix.ENXIO):
			delete(w.tracked, id) // the event of that is on its way
		case err != nil:
			errs = append(errs, err)
			t.unseen(now)
		case identity(s) == id:
			w.look(t, s, now)
		default:
			w.all()
			return nil
		}
	}
	return errors.Join(errs...)
}

// tellLate says when a threshold may have been seen late because the machine is busy, or because the kernel did not answer: a thin pool
// that commits its metadata answers afterwards (dm_pool_commit_metadata, dm-thin-metadata.c).
func (w *Watch) tellLate(planned, began time.Duration) {
	const much = time.Second
	woken, took := began-max(planned, w.free), w.now()-began
	w.free = began + took
	if woken > much || took > much {
		w.log.Info("pools were looked at late", "woken_late_by", woken.Round(time.Millisecond), "kernel_took", took.Round(time.Millisecond))
	}
}

// Identity outlives a new name and another device number, where the device has a UUID.
func (p Pool) Identity() string { return identity(p.Space) }

func identity(s dm.Space) string { return cmp.Or(s.UUID, s.Device) }

// look notes what is seen of a pool. Who looks at many reads the clock once: where that is a system call, it costs as much as the look.
func (w *Watch) look(t *tracked, s dm.Space, now time.Duration) {
	was := t.Level
	t.pace.add(now, s.Data.Used, s.Metadata.Used)
	t.Space, t.Name, t.here, t.Unseen = s, name(s), true, false
	if s.Data.Size > 0 {
		t.data.Add(now, s.Data.Used, s.Data.Size)
		t.DataLeft = left(&t.data, now, s.Data)
	}
	if s.Metadata.Size > 0 {
		t.metadata.Add(now, s.Metadata.Used, s.Metadata.Size)
		t.MetadataLeft = left(&t.metadata, now, s.Metadata)
	}
	t.Parts, t.Reason = judge(t.Parts, s, w.limits)
	t.Level = t.Parts.Worst()
	t.at, t.due = now, now+again(s, t.pace.data, t.pace.metadata, w.limits)
	if t.Level != was {
		t.Since = time.Now()
		w.report(Change{Pool: t.Pool, Was: was})
	}
}

func left(s *forecast.Series, now time.Duration, f dm.Fill) Left {
	in, known := s.Until(now, f.Used)
	return Left{in, known}
}

func name(s dm.Space) string {
	if own, ok := provider.DMSnapshot(s.Device, s.UUID); ok {
		return own
	}
	if vg, lv, layer, ok := dm.SplitLVMName(s.Device); ok && (layer == "" || layer == "tpool") {
		return vg + "/" + lv
	}
	return s.Device
}

// publish shows what was seen to whoever asks.
func (w *Watch) publish(err error) {
	if before := w.State().Err; err != nil && (before == nil || before.Error() != err.Error()) {
		w.log.Warn("not every pool can be watched", "error", err)
	}
	s := &State{Seen: time.Now(), Err: err, Pools: make([]Pool, 0, len(w.tracked))}
	for _, t := range w.tracked {
		s.Pools = append(s.Pools, t.Pool)
	}
	slices.SortFunc(s.Pools, func(a, b Pool) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Device, b.Device)) })
	w.state.Store(s)
	select {
	case w.looked <- struct{}{}:
	default:
	}
}

// boottime is the clock that goes on while the machine sleeps.
func boottime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic("internal error: CLOCK_BOOTTIME: " + err.Error()) // every Linux has it
	}
	return time.Duration(t.Nano())
}
