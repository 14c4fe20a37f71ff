package fsfreeze

import (
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
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

// Whatever the other goroutines of the process do in the window, it starts hardly a thread for them: on a busy machine the
// runtime has been seen to start a dozen, and would start one for each without.
func TestCrewLeavesThreadsIdle(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // as in a hold
	runtime.GC()
	c := NewCrew(40)
	defer c.Close()
	before := threads(t)
	var others sync.WaitGroup
	const n = 30
	for range n {
		others.Go(func() {
			pause := unix.NsecToTimespec(int64(100 * time.Millisecond))
			unix.Nanosleep(&pause, nil)
		})
	}
	others.Wait()
	if after := threads(t); after > before+2*n/3 {
		t.Errorf("%d threads were started for %d goroutines", after-before, n)
	}
}

// threads counts those of this process; a listing of /proc/self/task may miss some while others end.
func threads(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "\nThreads:")
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return n
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
