package fsfreeze

import "sync/atomic"

// Cell records one thing that is held (a frozen filesystem, a suspended device) in memory that the daemon and the guard
// share. Its transitions decide who releases: only the one whose Claim or Overtake succeeds does.
//
//	idle → taking → held → releasing → released   by whoever took it: the daemon's window
//	 │       │       ├───────┴─→ seized ──→ released   by a releaser: the guard, or the daemon when that is dead
//	 │       └──→ overtaken ───────↑                  (a releaser came while the kernel was still busy taking it)
//	 └──→ released                                    (a releaser came before it was taken: it must not be taken any more)
//
// So it can be told who was at it, when one of the two is dead.
//
// All methods are single atomic operations: they neither block nor allocate.
type Cell struct{ v atomic.Uint32 }

// CellState is the value of a Cell.
type CellState uint32

const (
	Idle      CellState = iota // not ours, nothing to release
	Taking                     // FIFREEZE or suspend has been issued and has not returned
	Held                       // ours: must be released
	Releasing                  // whoever took it is releasing it
	Released                   // was held, is no longer
	Overtaken                  // a releaser waits for the kernel to finish taking it, and releases it then
	Seized                     // it was taken, and a releaser is releasing it
)

var cellNames = [...]string{"idle", "taking", "held", "releasing", "released", "overtaken", "seized"}

func (s CellState) String() string {
	if int(s) < len(cellNames) {
		return cellNames[s]
	}
	return "state " + string(rune('0'+s%10))
}

// State is the cell's present state.
func (c *Cell) State() CellState { return CellState(c.v.Load()) }

func (c *Cell) move(from, to CellState) bool {
	return c.v.CompareAndSwap(uint32(from), uint32(to))
}

// Begin announces that the thing is about to be taken. It reports false if that may not happen.
func (c *Cell) Begin() bool { return c.move(Idle, Taking) }

// Took says how taking ended. It reports whether the thing is now ours to release; false after a successful take means
// that a releaser has overtaken it and releases it.
func (c *Cell) Took(ok bool) bool {
	if ok {
		if c.move(Taking, Held) {
			return true
		}
		c.move(Overtaken, Seized)
		return false
	}
	if !c.move(Taking, Idle) {
		c.move(Overtaken, Released)
	}
	return false
}

// Held reports whether the thing is held, by us and by nobody else.
func (c *Cell) Held() bool { return c.State() == Held }

// Claim makes the caller, who took it, the one who releases; false if it is not held, or a releaser was faster.
func (c *Cell) Claim() bool { return c.move(Held, Releasing) }

// Seize makes the caller, a releaser, the one who releases.
func (c *Cell) Seize() bool { return c.move(Held, Seized) }

// Overtake makes the caller the one who releases a thing that is still being taken.
func (c *Cell) Overtake() bool { return c.move(Taking, Overtaken) }

// Inherit makes the caller the one who releases a thing that another was about to release, in a state that says which.
func (c *Cell) Inherit(from CellState) bool { return c.move(from, Seized) }

// Done says that a release is over.
func (c *Cell) Done() { c.v.Store(uint32(Released)) }

// Forbid keeps an idle thing from ever being taken: the hold is over.
func (c *Cell) Forbid() bool { return c.move(Idle, Released) }

// Unclaim gives a failed release back, so that somebody else can try.
func (c *Cell) Unclaim() { c.move(Releasing, Held) }
