package acts

import (
	"errors"
	"slices"
	"time"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/pools"
)

// Kind of an act.
type Kind string

const (
	Warn           Kind = "warn"            // the pool has risen to a level; the outcome is the level
	Clear          Kind = "clear"           // it has fallen to one
	ExtendData     Kind = "extend-data"     // of a thin pool
	ExtendMetadata Kind = "extend-metadata" // of a thin pool
	ExtendCOW      Kind = "extend-cow"      // the copy-on-write area of a snapshot
	Delete         Kind = "delete"          // a set that its policy's retention does not keep
	DeleteKept     Kind = "delete-kept"     // one that it does keep
	Refuse         Kind = "refuse"          // a set is not taken
)

// Act is one thing to be done about a pool.
type Act struct {
	Kind  Kind
	Pool  pools.Pool
	Level pools.Level // that asks for it
}

const (
	// settle is how long the next act of a kind waits after one that was done: what was freed shows in the pool's status when
	// the kernel has committed its metadata, which it does each second (dm-thin.c, COMMIT_PERIOD).
	settle = 2 * time.Second
	// retry is how long after one that was not; twice as long each time, up to retryMax.
	retry    = time.Minute
	retryMax = 30 * time.Minute
	// yield is how long sets are kept after an extension was left to dmeventd, which looks at least every 10 seconds
	// (DM_EVENT_DEFAULT_TIMEOUT, dmeventd.h) and has to run lvextend; yieldFull while writes wait: they fail after a minute
	// (no_space_timeout, dm-thin.c).
	yield     = 30 * time.Second
	yieldFull = 15 * time.Second
)

// attempt is the last act of a kind on a pool.
type attempt struct {
	ended    time.Duration // of a clock that never jumps
	level    pools.Level   // of what asked for it
	failures int           // in a row, this one included
	left     time.Duration // when it was first left to dmeventd, at this level; 0: it is not
}

// yields is until when dmeventd may do it before something dearer is done, for a pool at a level.
func (a attempt) yields(level pools.Level) time.Duration {
	switch {
	case a.left == 0:
		return 0
	case level >= pools.Exhausted:
		return a.left + yieldFull
	}
	return a.left + yield
}

// until is when the act may be tried again for a level.
func (a attempt) until(level pools.Level) time.Duration {
	switch {
	case a == attempt{}:
		return 0
	case a.failures == 0:
		return a.ended + settle
	case level > a.level:
		return 0
	}
	return a.ended + min(retry<<min(a.failures-1, 10), retryMax)
}

// attempts are the last acts on a pool.
type attempts map[Kind]attempt

// after notes how an act ended.
func (a attempts) after(k Kind, level pools.Level, now time.Duration, err error) {
	was, x := a[k], attempt{ended: now, level: level}
	if err != nil {
		x.failures = was.failures + 1
	}
	if errors.Is(err, ErrLeft) {
		if x.left = now; was.left != 0 && was.level >= level {
			x.left = was.left
		}
	}
	a[k] = x
}

// forget takes back what was left to dmeventd and is not asked for any more at its level: dmeventd has done it, and does it the next
// time.
func (a attempts) forget(p pools.Pool, c config.PoolActs) {
	if p.Unseen {
		return
	}
	wanted := demands(p, c)
	for k, x := range a {
		if x.left != 0 && !slices.ContainsFunc(wanted, func(d demand) bool { return d.kind == k && d.level >= x.level }) {
			delete(a, k)
		}
	}
}

// demand is an act that a pool's state asks for, and the level that does.
type demand struct {
	kind  Kind
	level pools.Level
}

// demands of a pool, what costs least first: a set is deleted only when the pool cannot be extended, or for as long as it cannot.
func demands(p pools.Pool, c config.PoolActs) []demand {
	if p.Level == pools.Failed || p.Unseen || len(c.Only) > 0 && !slices.Contains(c.Only, p.Name) {
		return nil
	}
	var out []demand
	ask := func(k Kind, at config.PoolLevel, is pools.Level) {
		if from, ok := pools.ParseLevel(string(at)); ok && is >= from { // never is no level
			out = append(out, demand{k, is})
		}
	}
	if p.Type == "snapshot" {
		ask(ExtendCOW, c.Extend.At, p.Parts.Data)
		return out
	}
	ask(ExtendData, c.Extend.At, p.Parts.Data)
	ask(ExtendMetadata, c.Extend.At, p.Parts.Metadata)
	ask(Delete, c.Delete.Dropped, p.Level)
	ask(DeleteKept, c.Delete.Kept, p.Level)
	return out
}

// asked reports whether what is planned is still asked for, at its level or a worse one.
func (a Act) asked(all []pools.Pool, c config.PoolActs) bool {
	for _, p := range all {
		if p.Identity() == a.Pool.Identity() {
			return slices.ContainsFunc(demands(p, c), func(d demand) bool { return d.kind == a.Kind && d.level >= a.Level })
		}
	}
	return false
}

// plan says what to do next about the pools, the worst first, and when to look again although nothing has changed; 0: not at all.
func plan(all []pools.Pool, past map[string]attempts, c config.PoolActs, now time.Duration) (next *Act, again time.Duration) {
	wait := func(until time.Duration) {
		if again == 0 || until-now < again {
			again = until - now
		}
	}
	for _, p := range all {
		var yielded time.Duration
		for _, d := range demands(p, c) {
			if yielded > now && (d.kind == Delete || d.kind == DeleteKept) {
				wait(yielded)
				break
			}
			a := past[p.Identity()][d.kind]
			if until := a.until(d.level); until > now {
				wait(until)
				yielded = max(yielded, a.yields(p.Level))
				if a.failures == 0 { // it may just have been enough
					break
				}
				continue
			}
			if next == nil || d.level > next.Level {
				next = &Act{d.kind, p, d.level}
			}
			break
		}
	}
	return next, again
}
