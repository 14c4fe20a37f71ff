package acts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/pools"
)

// Doer does what is decided. It returns what was done, in words.
type Doer func(ctx context.Context, a Act) (done string, err error)

// What keeps an act from being done without anything having gone wrong.
var (
	// ErrNothing: there is nothing left that may be done: no room, or no set that may go.
	ErrNothing = errors.New("nothing is left that may be done")
	// ErrLeft: it is left to dmeventd.
	ErrLeft = errors.New("it is left to dmeventd")
	// ErrOver: the pool does not ask for it any more.
	ErrOver = errors.New("it is not asked for any more")
)

// Outcomes of an act, beside levels.
const (
	Done    = "ok"
	Failed  = "failed"
	Nothing = "nothing"
	Left    = "left"
)

// Report tells of an act.
type Report struct {
	Time    time.Time
	Pool    string
	COW     bool // Pool is a snapshot with a copy-on-write area
	Act     Kind
	Outcome string
	Level   pools.Level
	Detail  string // why, or what was done
}

// Watch is what a keeper follows: pools.Watch.
type Watch interface {
	State() pools.State
	Looked() <-chan struct{}
	Refresh(ctx context.Context) error
}

const (
	kept   = 20  // reports of a pool that are remembered
	queued = 256 // reports that wait to be told
)

// Keeper acts. What it does it reports, in order, from one goroutine that waits for nothing of the pools; hooks are run in another, so
// that one which takes its time keeps nobody from being told.
type Keeper struct {
	watch  Watch
	do     Doer
	acts   config.PoolActs
	report func(context.Context, Report)
	hook   func(context.Context, Report)
	log    *slog.Logger
	began  time.Time
	past   map[string]attempts // by identity
	queue  chan Report
	hooks  chan Report

	mu     sync.Mutex
	recent map[string][]Report // by the pool's name, oldest first
	acting bool
}

// New makes a keeper; Run runs it. Report tells at once; hook may take its time.
func New(watch Watch, do Doer, acts config.PoolActs, report, hook func(context.Context, Report), log *slog.Logger) *Keeper {
	return &Keeper{watch: watch, do: do, acts: acts, report: report, hook: hook, log: log, began: time.Now(),
		past: map[string]attempts{}, queue: make(chan Report, queued), hooks: make(chan Report, queued), recent: map[string][]Report{}}
}

// Changed takes a change of level, from the watch. It does not block.
func (k *Keeper) Changed(c pools.Change) {
	r := Report{Time: time.Now(), Pool: c.Name, COW: c.Type == "snapshot", Act: Warn, Outcome: c.Level.String(), Level: c.Level, Detail: c.Reason}
	if c.Level < c.Was {
		r.Act = Clear
	}
	k.Tell(r)
}

// Tell reports what somebody else did. It does not block.
func (k *Keeper) Tell(r Report) {
	k.mu.Lock()
	k.recent[r.Pool] = append(k.recent[r.Pool], r)
	if n := len(k.recent[r.Pool]); n > kept {
		k.recent[r.Pool] = slices.Delete(k.recent[r.Pool], 0, n-kept)
	}
	k.mu.Unlock()
	k.enqueue(k.queue, r, "a report is lost: too many wait")
}

func (k *Keeper) enqueue(queue chan<- Report, r Report, lost string) {
	select {
	case queue <- r:
	default:
		k.log.Warn(lost, "pool", r.Pool, "act", r.Act, "outcome", r.Outcome)
	}
}

// Recent are the last reports of a pool, oldest first.
func (k *Keeper) Recent(pool string) []Report {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.recent[pool])
}

// Acting reports whether something is being done.
func (k *Keeper) Acting() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.acting
}

// Run acts until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	var telling sync.WaitGroup
	defer telling.Wait()
	telling.Go(func() {
		each(ctx, k.queue, func(r Report) {
			k.report(ctx, r)
			k.enqueue(k.hooks, r, "the hook is not run: too many reports wait for it")
		})
	})
	telling.Go(func() { each(ctx, k.hooks, func(r Report) { k.hook(ctx, r) }) })
	for err := error(nil); ctx.Err() == nil; {
		if err != nil { // to go by what was the case once could delete everything
			k.log.Error("nothing is done about pools any more", "error", err)
			<-ctx.Done()
			return
		}
		next, again := plan(k.known(), k.past, k.acts, k.now())
		if next != nil {
			err = k.act(ctx, *next)
			continue
		}
		var timer <-chan time.Time
		if again > 0 {
			timer = time.After(again)
		}
		select {
		case <-ctx.Done():
		case <-k.watch.Looked():
		case <-timer: // the watch looks rarely at what grows slowly
			err = k.watch.Refresh(ctx)
		}
	}
}

// each does something for each report until ctx ends.
func each(ctx context.Context, queue <-chan Report, do func(Report)) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-queue:
			do(r)
		}
	}
}

func (k *Keeper) now() time.Duration { return time.Since(k.began) + 1 }

// known are the pools that there are; what has vanished is forgotten.
func (k *Keeper) known() []pools.Pool {
	all := k.watch.State().Pools
	here, names := map[string]bool{}, map[string]bool{}
	for _, p := range all {
		here[p.Identity()], names[p.Name] = true, true
		k.past[p.Identity()].forget(p, k.acts)
	}
	for id := range k.past {
		if !here[id] {
			delete(k.past, id)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for name := range k.recent {
		if !names[name] {
			delete(k.recent, name)
		}
	}
	return all
}

// Still looks at the pools, and is ErrOver if what was planned is not asked for any more: for a Doer that had to wait.
func (k *Keeper) Still(ctx context.Context, a Act) error {
	if err := k.watch.Refresh(ctx); err != nil {
		return fmt.Errorf("cannot look at %s again before %s: %w", a.Pool.Name, a.Kind, err)
	}
	if !a.asked(k.watch.State().Pools, k.acts) {
		return ErrOver
	}
	return nil
}

// act has one act done, and looks what came of it. The error says that nobody can see that.
func (k *Keeper) act(ctx context.Context, a Act) error {
	k.setActing(true)
	defer k.setActing(false)
	done, err := k.do(ctx, a)
	if err != nil && ctx.Err() != nil {
		return nil // the daemon ends
	}
	if errors.Is(err, ErrOver) {
		return nil // what is to be done now is planned anew
	}
	past := k.past[a.Pool.Identity()]
	if past == nil {
		past = attempts{}
		k.past[a.Pool.Identity()] = past
	}
	r := Report{Time: time.Now(), Pool: a.Pool.Name, COW: a.Pool.Type == "snapshot", Act: a.Kind, Outcome: outcome(err), Level: a.Level, Detail: done}
	if err != nil {
		r.Detail = err.Error()
	}
	if silent := errors.Is(err, ErrNothing) || errors.Is(err, ErrLeft); !silent || past[a.Kind].failures == 0 || a.Level > past[a.Kind].level {
		k.Tell(r) // what goes on being so was told
	}
	looked := k.watch.Refresh(ctx)
	past.after(a.Kind, a.Level, k.now(), err)
	return looked
}

func (k *Keeper) setActing(is bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.acting = is
}

func outcome(err error) string {
	switch {
	case err == nil:
		return Done
	case errors.Is(err, ErrNothing):
		return Nothing
	case errors.Is(err, ErrLeft):
		return Left
	}
	return Failed
}
