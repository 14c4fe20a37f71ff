package fsfreeze

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// soon is when the other side does something, a few attempts later.
func soon(do func()) { time.AfterFunc(5*releasePause, do) }

func TestRelease(t *testing.T) {
	fail := errors.New("no")
	dead := false
	tests := []struct {
		name     string
		setup    func(c *Cell)
		answers  []error // of each attempt; the last one repeats
		released bool
		err      error
		attempts int // -1: as many as short patience allows
		end      CellState
	}{
		{"idle", func(*Cell) {}, nil, false, nil, 0, Released},
		{"held", func(c *Cell) { c.Begin(); c.Took(true) }, []error{nil}, true, nil, 1, Released},
		{"thawed elsewhere", func(c *Cell) { c.Begin(); c.Took(true) }, []error{unix.EINVAL}, false, nil, 1, Released},
		{"held, second attempt", func(c *Cell) { c.Begin(); c.Took(true) }, []error{fail, nil}, true, nil, 2, Released},
		{"still being taken", func(c *Cell) { c.Begin(); soon(func() { c.Took(true) }) }, []error{unix.EINVAL, nil, unix.EINVAL}, true, nil, 3, Released},
		{"taken when patience is over", func(c *Cell) { c.Begin(); time.AfterFunc(50*time.Millisecond, func() { c.Took(true) }) }, []error{unix.EINVAL}, false, nil, -1, Released},
		{"never taken, by one who died", func(c *Cell) { c.Begin(); dead = true }, []error{unix.EINVAL}, false, nil, 1, Released},
		{"taken, by one who died", func(c *Cell) { c.Begin(); dead = true }, []error{nil}, true, nil, 1, Released},
		{"about to be released, by one who died", func(c *Cell) { c.Begin(); c.Took(true); c.Claim(); dead = true }, []error{nil}, true, nil, 1, Released},
		{"released, by one who died then", func(c *Cell) { c.Begin(); c.Took(true); c.Claim(); dead = true }, []error{unix.EINVAL}, false, nil, 1, Released},
		{"about to be released, by one who stands still", func(c *Cell) { c.Begin(); c.Took(true); c.Claim() }, []error{nil}, true, nil, 1, Released},
		{"somebody else's, and then ours", func(c *Cell) { c.Begin(); soon(func() { c.Took(true) }) }, []error{nil, nil}, true, nil, 2, Released},
		{"hopeless", func(c *Cell) { c.Begin(); c.Took(true) }, []error{fail}, false, fail, -1, Seized},
		{"hopeless, of one who died", func(c *Cell) { c.Begin(); dead = true }, []error{fail}, false, fail, -1, Overtaken},
		{"another releaser's, who died", func(c *Cell) { c.Begin(); c.Took(true); c.Seize(); dead = true }, []error{nil}, true, nil, 1, Released},
		{"taken late, another releaser's, who died", func(c *Cell) { c.Begin(); c.Overtake(); dead = true }, []error{nil}, true, nil, 1, Released},
		{"already released", func(c *Cell) { c.Begin(); c.Took(true); c.Claim(); c.Done() }, nil, false, nil, 0, Released},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := new(Cell)
			dead = false
			tt.setup(c)
			n := 0
			patience := time.Minute
			if tt.attempts < 0 {
				patience = 20 * time.Millisecond
			}
			released, err := Release(c, func() error {
				n++
				return tt.answers[min(n, len(tt.answers))-1]
			}, patience, func() bool { return dead })
			if released != tt.released || !errors.Is(err, tt.err) || tt.attempts >= 0 && n != tt.attempts || c.State() != tt.end {
				t.Errorf("released %v, err %v, attempts %d, state %v", released, err, n, c.State())
			}
		})
	}
}

func TestReleaseStopsWhenTheTakeFails(t *testing.T) {
	c := new(Cell)
	c.Begin()
	n := 0
	released, err := Release(c, func() error {
		if n++; n == 2 {
			c.Took(false)
		}
		return unix.EINVAL
	}, time.Minute, nil)
	if released || err != nil || n != 2 {
		t.Errorf("released %v, err %v, attempts %d", released, err, n)
	}
}

// Whoever lives and has begun to release something is let do it.
func TestReleaseLetsFinish(t *testing.T) {
	for name, gone := range map[string]func() bool{"asked": func() bool { return false }, "nobody knows": nil} {
		c := new(Cell)
		c.Begin()
		c.Took(true)
		c.Claim()
		time.AfterFunc(releasePause, c.Done)
		released, err := Release(c, func() error { return errors.New("released twice") }, time.Second, gone)
		if released || err != nil {
			t.Errorf("%s: released %v, err %v", name, released, err)
		}
	}
}

// What another releaser is at is left to it while it lives.
func TestReleaseLeavesToOthers(t *testing.T) {
	for _, gone := range []func() bool{nil, func() bool { return false }} {
		c := new(Cell)
		c.Begin()
		c.Took(true)
		c.Seize()
		time.AfterFunc(2*releasingTime, c.Done)
		released, err := Release(c, func() error { return errors.New("released twice") }, time.Minute, gone)
		if released || err != nil {
			t.Errorf("released %v, err %v", released, err)
		}
	}
}

// Whoever took it releases what a dead releaser has left, in whatever state, once; and nothing that somebody is at.
func TestReclaim(t *testing.T) {
	dead := false
	die := func() { dead = true }
	tests := []struct {
		name     string
		setup    func(c *Cell)
		answers  []error
		released bool
		attempts int // -1: some
	}{
		{"idle", func(*Cell) {}, nil, false, 0},
		{"held", func(c *Cell) { c.Begin(); c.Took(true) }, []error{nil}, true, 1},
		{"seized by one who died", func(c *Cell) { c.Begin(); c.Took(true); c.Seize(); die() }, []error{nil}, true, 1},
		{"released by one who died then", func(c *Cell) { c.Begin(); c.Took(true); c.Seize(); die() }, []error{unix.EINVAL}, false, 1},
		{"overtaken by one who died", func(c *Cell) { c.Begin(); c.Overtake(); die(); soon(func() { c.Took(true) }) }, []error{unix.EINVAL, nil, unix.EINVAL}, true, 3},
		{"overtaken and released by one who died", func(c *Cell) { c.Begin(); c.Overtake(); die(); soon(func() { c.Took(true) }) }, []error{unix.EINVAL}, false, -1},
		{"overtaken by one who died, and not taken", func(c *Cell) { c.Begin(); c.Overtake(); die(); soon(func() { c.Took(false) }) }, []error{unix.EINVAL}, false, -1},
		{"seized by one who lives", func(c *Cell) { c.Begin(); c.Took(true); c.Seize(); soon(c.Done) }, nil, false, 0},
		{"still being taken", func(c *Cell) { c.Begin(); soon(func() { c.Took(true) }) }, []error{unix.EINVAL, nil, unix.EINVAL}, true, 3},
		{"our own thread's", func(c *Cell) { c.Begin(); c.Took(true); c.Claim(); die(); soon(c.Done) }, nil, false, 0},
		{"our own thread failed", func(c *Cell) { c.Begin(); c.Took(true); c.Claim(); die(); soon(c.Unclaim) }, []error{nil}, true, 1},
		{"released", func(c *Cell) { c.Begin(); c.Took(true); c.Claim(); c.Done() }, nil, false, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := new(Cell)
			dead = false
			tt.setup(c)
			n := 0
			released, err := Reclaim(c, func() error {
				if n++; len(tt.answers) == 0 {
					return errors.New("not to be released")
				}
				return tt.answers[min(n, len(tt.answers))-1]
			}, time.Minute, func() bool { return dead })
			if released != tt.released || err != nil || tt.attempts >= 0 && n != tt.attempts || tt.attempts < 0 && n == 0 || c.State() != Released {
				t.Errorf("released %v, err %v, attempts %d, state %v", released, err, n, c.State())
			}
		})
	}
}

// What another releaser waits for the kernel to finish is left to it for as long as it lives, and taken over when it dies.
func TestReclaimWaitsForTheKernel(t *testing.T) {
	c := new(Cell)
	c.Begin()
	c.Overtake()
	began, n := time.Now(), 0
	time.AfterFunc(60*time.Millisecond, func() { c.Took(true) })
	released, err := Reclaim(c, func() error { n++; return nil }, 10*time.Millisecond, func() bool { return time.Since(began) > 30*time.Millisecond })
	if !released || err != nil || n == 0 || c.State() != Released {
		t.Errorf("released %v, err %v, attempts %d, state %v", released, err, n, c.State())
	}
}

// However long the kernel took, what cannot be released at once then is tried again.
func TestReleaseIsPatientWithWhatWasTakenLate(t *testing.T) {
	c, n := new(Cell), 0
	c.Begin()
	time.AfterFunc(600*time.Millisecond, func() { c.Took(true) })
	released, err := Release(c, func() error {
		if c.State() != Seized {
			return unix.EINVAL
		}
		if n++; n < 3 {
			return unix.EIO
		}
		return nil
	}, 500*time.Millisecond, func() bool { return false })
	if !released || err != nil || n != 3 || c.State() != Released {
		t.Errorf("released %v, err %v, attempts %d, state %v", released, err, n, c.State())
	}
}
