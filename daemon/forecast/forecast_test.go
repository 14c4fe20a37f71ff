package forecast

import (
	"math/rand/v2"
	"testing"
	"time"
)

// fed is a series to which used(at) was added every 10 seconds for so long.
func fed(long time.Duration, used func(at time.Duration) uint64) (*Series, time.Duration) {
	s := &Series{}
	at := 100 * time.Hour // an origin is nothing special
	for end := at + long; at < end; at += 10 * time.Second {
		s.Add(at, used(at-100*time.Hour), 1000_000)
	}
	return s, at - 10*time.Second
}

func TestUntil(t *testing.T) {
	line := func(from, hourly float64) func(time.Duration) uint64 {
		return func(at time.Duration) uint64 { return uint64(from + hourly*at.Hours()) }
	}
	for _, c := range []struct {
		name      string
		long      time.Duration
		used      func(time.Duration) uint64
		known     bool
		low, high time.Duration
	}{
		{"nothing seen", 10 * time.Second, line(0, 1000), false, 0, Never},
		{"four minutes", 4 * time.Minute, line(0, 1000_000), false, 0, Never},
		{"ten minutes, fast", 10 * time.Minute, line(500_000, 1200_000), true, 14 * time.Minute, 16 * time.Minute},
		{"ten minutes, slow", 10 * time.Minute, line(500_000, 100_000), true, 4 * time.Hour, 6 * time.Hour},
		{"a day", 24 * time.Hour, line(100_000, 10_000), true, 65 * time.Hour, 67 * time.Hour},
		{"still", 24 * time.Hour, line(100_000, 0), true, Never, Never},
		{"shrinking", 24 * time.Hour, line(900_000, -10_000), true, Never, Never},
		{"full", 24 * time.Hour, line(1000_000, 0), true, 0, 0},
		{"more than full", 24 * time.Hour, line(1000_000, 5), true, 0, 0},
		{"very slow", 200 * time.Hour, func(at time.Duration) uint64 { return uint64(at / (100 * time.Hour)) }, true, Never, Never},
	} {
		s, at := fed(c.long, c.used)
		left, known := s.Until(at, c.used(at-100*time.Hour))
		if known != c.known || left < c.low || left > c.high {
			t.Errorf("%s: %v, known %t; want %v to %v, %t", c.name, left, known, c.low, c.high, c.known)
		}
	}
}

func TestEmpty(t *testing.T) {
	var s Series
	if left, known := s.Until(time.Hour, 5); known || left < 0 {
		t.Errorf("of nothing: %v, %t", left, known)
	}
	s.Add(time.Hour, 0, 0)
	if left, known := s.Until(time.Hour, 0); known || left < 0 {
		t.Errorf("of a size of nothing: %v, %t", left, known)
	}
}

// Whatever comes, the answer is a time, and the memory is bounded.
func TestAnySeries(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		var s Series
		at, size := time.Duration(r.Int64N(int64(time.Hour))), uint64(r.Int64N(1<<40))
		for range 2000 {
			at += time.Duration(r.Int64N(int64(10*time.Minute))) - time.Minute // a clock that goes back costs nothing but the sample
			used := uint64(r.Int64N(int64(size) + 2))
			if r.IntN(100) == 0 {
				size = uint64(r.Int64N(1 << 40)) // extended, or another one
			}
			s.Add(at, used, size)
			if left, _ := s.Until(at, used); left < 0 {
				t.Fatalf("seed %d: %v", seed, left)
			}
		}
		for i, w := range s.windows {
			if len(w) > samples+1 || cap(w) > 2*(samples+1) {
				t.Fatalf("seed %d: window %d has %d samples", seed, i, len(w))
			}
		}
	}
}
