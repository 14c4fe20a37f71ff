package fsfreeze

import (
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestCrew(t *testing.T) {
	for _, n := range []int{1, 2, 9, 40} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			c := NewCrew(n)
			defer c.Close()
			bad := errors.New("bad")
			for round := range 200 {
				var acted atomic.Uint32
				errs := c.Do(func(i int) error {
					acted.Add(1)
					if i == round%n {
						return bad
					}
					return nil
				})
				if int(acted.Load()) != n {
					t.Fatalf("round %d: %d of %d acted", round, acted.Load(), n)
				}
				for i, err := range errs {
					if (err == bad) != (i == round%n) {
						t.Fatalf("round %d: thread %d says %v", round, i, err)
					}
				}
			}
		})
	}
}

// All act at the same time, not one after the other.
func TestCrewIsConcurrent(t *testing.T) {
	const n = 8
	c := NewCrew(n)
	defer c.Close()
	var here atomic.Uint32
	c.Do(func(int) error {
		here.Add(1)
		for end := time.Now().Add(5 * time.Second); here.Load() < n; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Error("the others do not come")
				break
			}
		}
		return nil
	})
}

// Whatever the other goroutines of the process do in the window, it starts no thread for them.
func TestCrewLeavesThreadsIdle(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // as in a hold
	runtime.GC()
	c := NewCrew(2)
	defer c.Close()
	before := threads(t)
	var others sync.WaitGroup
	for range runtime.GOMAXPROCS(0) - 1 { // and this one
		others.Go(func() {
			pause := unix.NsecToTimespec(int64(100 * time.Millisecond))
			unix.Nanosleep(&pause, nil)
		})
	}
	others.Wait()
	if after := threads(t); after > before {
		t.Errorf("%d threads were started", after-before)
	}
}

func threads(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(tasks)
}

func TestCrewAllocatesNothing(t *testing.T) {
	c := NewCrew(4)
	defer c.Close()
	act := func(int) error { return nil }
	if n := testing.AllocsPerRun(100, func() { c.Do(act) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCrew(b *testing.B) {
	c := NewCrew(8)
	defer c.Close()
	act := func(int) error { return nil }
	for b.Loop() {
		c.Do(act)
	}
}
