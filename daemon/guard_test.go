package daemon

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/fsfreeze/guard"
)

// The deadline fires, and the guard dies before it has released what it has claimed, or claimed anything: the daemon, which
// lives, releases it, once, and there is no set.
func TestGuardDiesAtItsDeadline(t *testing.T) {
	plan := rehearse(t)
	var all sync.WaitGroup
	defer all.Wait()
	tried := map[string]bool{}
	for _, call := range plan.calls {
		step := plan.steps[call]
		if step != "window" && step != "probe" || !slices.ContainsFunc([]string{"freeze ", "thaw ", "PreCommit ", "Commit ", "PostCommit "}, func(p string) bool { return strings.HasPrefix(call, p) }) {
			continue
		}
		for _, claims := range [][2]bool{{true, true}, {true, false}, {false, true}, {false, false}} {
			tried[step] = true
			name := fmt.Sprintf("%s, devices claimed %v, filesystems claimed %v", call, claims[0], claims[1])
			all.Go(func() { t.Run(name, func(t *testing.T) { dies(t, call, claims) }) }) // they wait, and do little else
		}
	}
	if len(tried) != 2 {
		t.Errorf("tried only %v", tried)
	}
}

func dies(t *testing.T, call string, claims [2]bool) {
	w := newWorld(t)
	w.policy.Limits.Freeze = 20 * time.Millisecond
	d := w.daemon()
	var died atomic.Bool
	w.tap = on(call, true, func() error {
		w.mu.Lock()
		g := w.guard
		w.mu.Unlock()
		if g != nil { // else this machine is so slow that the window is given up already
			g.die(claims[0], claims[1])
			died.Store(g.died.Load())
		}
		return nil
	})
	_, err := w.take(t.Context(), d)
	if c := api.Of(err); c != api.Timeout && c != api.Broken && c != api.Failed || died.Load() && !strings.Contains(err.Error(), "cannot hear from the guard") {
		t.Errorf("got %v", err)
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) { // what was stuck comes back
		f, s := w.frozen("ours"), w.suspended()
		if len(f)+len(s)+w.holds("calls")+w.holds("counters")+len(leftovers(t, d)) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("frozen: %v, suspended: %v, %d calls wait", f, s, w.holds("calls"))
		}
	}
	w.nothing(t, d)
}

var _ Guard = (*fakeGuard)(nil)
var _ Guard = (*guard.Armed)(nil)
