package fsfreeze

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestRelease(t *testing.T) {
	fail := errors.New("no")
	dead := false
	tests := []struct {
		name     string
		setup    func(c *Cell)
		answers  []error // of each attempt; the last one repeats
		released bool
		err      error
		attempts int
		end      CellState
	}{
		{"idle", func(*Cell) {}, nil, false, nil, 0, Released},
		{"held", func(c *Cell) { c.Begin(); c.Took(true) }, []error{nil}, true, nil, 1, Released},
		{"thawed elsewhere", func(c *Cell) { c.Begin(); c.Took(true) }, []error{unix.EINVAL}, false, nil, 1, Released},
		{"held, second attempt", func(c *Cell) { c.Begin(); c.Took(true) }, []error{fail, nil}, true, nil, 2, Released},
		{"still being taken", func(c *Cell) { c.Begin() }, []error{unix.EINVAL, unix.EINVAL, nil}, true, nil, 3, Released},
		{"never taken", func(c *Cell) { c.Begin() }, []error{unix.EINVAL}, false, unix.EINVAL, -1, Overtaken},
		{"never taken, by one who died", func(c *Cell) { c.Begin(); dead = true }, []error{unix.EINVAL}, false, nil, 1, Released},
		{"taken, by one who died", func(c *Cell) { c.Begin(); dead = true }, []error{nil}, true, nil, 1, Released},
		{"about to be released, by one who died", func(c *Cell) { c.Begin(); c.Took(true); c.Claim(); dead = true }, []error{nil}, true, nil, 1, Released},
		{"released, by one who died then", func(c *Cell) { c.Begin(); c.Took(true); c.Claim(); dead = true }, []error{unix.EINVAL}, false, nil, 1, Released},
		{"about to be released, by one who stands still", func(c *Cell) { c.Begin(); c.Took(true); c.Claim() }, []error{nil}, true, nil, 1, Released},
		{"hopeless", func(c *Cell) { c.Begin(); c.Took(true) }, []error{fail}, false, fail, -1, Releasing},
		{"already released", func(c *Cell) { c.Begin(); c.Took(true); c.Claim(); c.Done() }, nil, false, nil, 0, Released},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := new(Cell)
			dead = false
			tt.setup(c)
			n := 0
			patience := time.Minute
			if tt.err != nil {
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
		released, err := Release(c, func() error { return errors.New("released twice") }, 0, gone)
		if released || err != nil {
			t.Errorf("%s: released %v, err %v", name, released, err)
		}
	}
}
