package daemon

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/fsfreeze/guard"
)

// window is the freeze window: from the first filesystem blocked to the last one released.
//
// Between enter and close nothing may exec, write, log, look up a path, take a lock that anything outside could hold, or
// wait for anything but the kernel: whoever it would wait for may be blocked by us. run is the hot part; all it calls
// has been prepared. Whatever it finds wrong is put into the evidence and judged afterwards.
type window struct {
	host     Host
	set      string
	names    []string // of its parts
	limit    time.Duration
	levels   [][]Filesystem // level 0 is frozen first
	parts    []provider.Enlistment
	counters []counter

	guard  Guard
	armed  bool
	stuck  bool          // run has given it up, and the kernel has not: what it uses stays as it is
	over   chan struct{} // when it is stuck: closed as soon as the kernel has come back and nothing is held any more
	locked []provider.Enlistment
	unlock func() error     // memory
	crews  []*fsfreeze.Crew // the threads of each level

	opened   time.Time
	marks    [6]time.Duration // since opened: each part's beginning, and the last one's end
	instant  time.Time
	evidence evidence
}

// windowPhases are the parts of a window that captures, quietPhases those of one that only holds.
var (
	windowPhases = []string{"freeze", "pre-commit", "commit", "post-commit", "thaw"}
	quietPhases  = []string{"freeze", "hold", "thaw"}
)

type counter struct {
	Counter
	volume        string
	before, after dm.Writes
	err           error
}

// enter takes everything that the window needs and that can be waited for.
func (w *window) enter(ctx context.Context) error {
	for _, p := range w.parts {
		if err := p.Lock(ctx); err != nil {
			return classed(api.Failed, err)
		}
		w.locked = append(w.locked, p)
	}
	unlock, err := w.host.LockMemory()
	if err != nil {
		return err
	}
	w.unlock = unlock
	return w.arm(ctx)
}

// arm hands everything to the guard and starts a thread for each filesystem.
func (w *window) arm(ctx context.Context) error {
	var devices []uint64
	for _, p := range w.parts {
		for _, o := range p.Origins() {
			devices = append(devices, uint64(o))
		}
	}
	g, err := w.host.Arm(ctx, w.set, w.limit, slices.Concat(w.levels...), devices)
	if err != nil {
		return err
	}
	w.guard, w.armed = g, true
	n := 0
	for _, p := range w.parts {
		holds := make([]provider.Hold, len(p.Origins()))
		for i := range holds {
			holds[i] = g.DeviceCell(n)
			n++
		}
		p.Watch(holds)
		if l, ok := p.(provider.Limiter); ok {
			l.Limit(w.limit)
		}
	}
	for _, l := range w.levels {
		w.crews = append(w.crews, fsfreeze.NewCrew(len(l)))
	}
	return nil
}

// close ends what enter began. Nothing is held any more, but for what is stuck in the kernel.
func (w *window) close() error {
	var errs []error
	if w.armed {
		var err error
		w.evidence.ended, w.evidence.report, err = w.guard.Close()
		errs = append(errs, err)
		for _, text := range w.evidence.report.Errors {
			errs = append(errs, errors.New("guard: "+text))
		}
		w.armed = false
	}
	if w.unlock != nil {
		errs = append(errs, w.unlock())
		w.unlock = nil
	}
	for _, p := range w.locked {
		errs = append(errs, p.Unlock())
	}
	w.locked = nil
	if !w.stuck {
		errs = append(errs, w.discard())
	}
	return errors.Join(errs...)
}

// discard gives up what run's thread uses.
func (w *window) discard() error {
	for _, c := range w.crews {
		c.Close()
	}
	w.crews = nil
	for _, p := range w.parts {
		p.Watch(nil)
	}
	var errs []error
	for i := range w.counters {
		c := &w.counters[i]
		w.evidence.counted(c)
		errs = append(errs, c.Close())
	}
	w.counters = nil
	return errors.Join(errs...)
}

// run does act on a thread of its own, and keeps the time: past the limit the guard has released everything, and run
// returns even if a freeze is stuck in the kernel.
func (w *window) run(act func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		fsfreeze.Urgent()      // it is only slower without
		done <- act()
	}()
	late := time.NewTimer(w.limit + graceAfterLimit)
	defer late.Stop()
	select {
	case err := <-done:
		return err
	case <-late.C:
	}
	w.stuck, w.over = true, make(chan struct{})
	rescued := w.rescue()
	go func() {
		defer close(w.over)
		<-done
		<-rescued
		w.guard.Expire(-1)
		w.discard() // of a set that has failed long ago
	}()
	return api.Errorf(api.Timeout, "cannot hold the filesystems within %v: the freeze is stuck in the kernel; it is thawed as soon as it completes", w.limit)
}

// graceAfterLimit is how long after the limit the guard has had its time to release.
const graceAfterLimit = time.Second

// rescue is for the case that the guard is gone and the window stuck: everything is released, or will be when the kernel
// has finished taking it. It waits a moment for what can be released now; rescued is closed when all has returned.
func (w *window) rescue() (rescued <-chan struct{}) {
	late := time.After(graceAfterLimit)
	var all sync.WaitGroup
	for _, p := range w.parts {
		all.Go(func() { p.PostCommit() }) // resumes what is suspended; what cannot be resumed now is the guard's
	}
	w.guard.Expire(graceAfterLimit)
	done := make(chan struct{})
	go func() {
		all.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-late:
	}
	return done
}

// hold is the window. What happens inside it marks the beginnings of all parts but the first two.
func (w *window) hold(inside func() error) error {
	w.opened = time.Now()
	w.mark(0)
	err := w.freeze()
	w.mark(1)
	if err == nil {
		err = inside()
	} else {
		for i := range w.names[2:] {
			w.mark(2 + i)
		}
	}
	w.thaw()
	w.mark(len(w.names))
	if err != nil { // otherwise verify judges the thaw
		err = errors.Join(append([]error{err}, w.evidence.thaw...)...)
	}
	return err
}

// freeze freezes level by level, each level at once.
func (w *window) freeze() error {
	for i := range w.levels {
		if err := w.together(i, freezing); err != nil {
			return err
		}
	}
	for i := range w.counters {
		c := &w.counters[i]
		c.before, c.err = c.Read()
	}
	return nil
}

// capture holds all volumes, captures all, releases all.
func (w *window) capture(holding func() error) (err error) {
	defer func() {
		w.mark(3)
		for _, p := range w.parts {
			if e := w.insist(p.PostCommit); e != nil {
				err = errors.Join(err, e)
			}
		}
		w.mark(4)
	}()
	for _, p := range w.parts {
		if err = p.PreCommit(); err != nil {
			w.mark(2)
			return w.judged(err)
		}
	}
	w.mark(2)
	w.instant = w.opened.Add(w.marks[2])
	for _, p := range w.parts {
		if w.guard.Fired() { // a set that is being undone must not be captured
			return w.judged(errors.New("cannot capture the volumes: the guard has released them"))
		}
		if err = p.Commit(); err != nil {
			return w.judged(err)
		}
	}
	w.prove(holding)
	return nil
}

// prove takes down what is known of the hold while it lasts: whether the writers hold, and what was written.
func (w *window) prove(holding func() error) {
	w.evidence.holding = holding()
	for i := range w.counters {
		if c := &w.counters[i]; c.err == nil {
			c.after, c.err = c.Read()
		}
	}
}

// judged is what failed while the volumes were held: past the deadline everything may.
func (w *window) judged(err error) error {
	if w.guard.Fired() {
		return api.Errorf(api.Timeout, "the freeze took too long: %w", err)
	}
	return classed(api.Failed, err)
}

// thaw thaws level by level, backwards. It does not stop at an error.
func (w *window) thaw() {
	for i := len(w.levels) - 1; i >= 0; i-- {
		if err := w.insist(func() error { return w.together(i, thawing) }); err != nil {
			w.evidence.thaw = append(w.evidence.thaw, err)
		}
	}
}

// insist repeats a release until it succeeds, or until the deadline has made it the guard's. That a filesystem was not
// frozen any more is reported, and ends its release.
func (w *window) insist(release func() error) error {
	var broken error
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := release()
		switch {
		case err == nil:
			return broken
		case errors.Is(err, fsfreeze.ErrThawed):
			broken = errors.Join(broken, err)
		case w.guard.Fired():
			return errors.Join(broken, err)
		default:
			time.Sleep(pause)
		}
	}
}

// mark reads the monotonic clock only: where clocks are system calls, time.Now makes two of them.
func (w *window) mark(i int) { w.marks[i] = time.Since(w.opened) }

// length is the freeze window's.
func (w *window) length() time.Duration { return w.marks[len(w.names)] - w.marks[0] }

// phases are the window's parts as the manifest tells them.
func (w *window) phases(begun time.Time) []api.Phase {
	var out []api.Phase
	for i, name := range w.names {
		if w.marks[i+1] == 0 {
			break
		}
		out = append(out, api.Phase{Name: name, Start: w.opened.Sub(begun) + w.marks[i], Duration: w.marks[i+1] - w.marks[i], Window: true})
	}
	return out
}

// probe freezes and thaws each filesystem, one after the other.
func (w *window) probe() error {
	return w.run(func() error {
		for _, level := range w.levels {
			for _, f := range level {
				err := freezing(f)
				if e := w.insist(func() error { return thawing(f) }); err == nil && e != nil {
					err = classed(api.Failed, e)
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// together lets all threads of a level act at the same time. With one filesystem there is nothing to be gained, so this
// thread does it: the window's timekeeper is elsewhere.
func (w *window) together(level int, act func(Filesystem) error) error {
	all := w.levels[level]
	if len(all) == 1 {
		return act(all[0])
	}
	var failed error
	for _, err := range w.crews[level].Do(func(i int) error { return act(all[i]) }) {
		if err != nil {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

func freezing(f Filesystem) error { return freezeError(f.Freeze()) }
func thawing(f Filesystem) error  { return f.Thaw() }

// freezeError says what a requester can do about a filesystem that could not be frozen.
func freezeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fsfreeze.ErrFrozen):
		return &api.Error{Class: api.Refused, Err: err}
	case errors.Is(err, fsfreeze.ErrOvertaken):
		return &api.Error{Class: api.Timeout, Err: err}
	}
	return &api.Error{Class: api.Failed, Err: err}
}

var _ Guard = (*guard.Armed)(nil)
