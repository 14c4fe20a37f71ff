package daemon

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/journal"
	"github.com/fermata-project/fermata/fsfreeze/guard"
)

// The kernel can hang in any call of the window, and nobody can interrupt it. The requester gets an answer in time, what
// can be released is released, and what hangs is released when the kernel comes back, also when there is no guard.
func TestStuckAnywhere(t *testing.T) {
	plan := rehearse(t)
	var all sync.WaitGroup
	defer all.Wait()
	for _, call := range plan.calls {
		if plan.steps[call] != "window" && !(plan.steps[call] == "probe" && strings.HasPrefix(call, "freeze ")) {
			continue
		}
		for _, guarded := range []bool{true, false} {
			name := call + " without a guard"
			if guarded {
				name = call
			}
			all.Go(func() { t.Run(name, func(t *testing.T) { stuck(t, call, guarded) }) }) // they wait, and do little else
		}
	}
}

func stuck(t *testing.T, call string, guarded bool) {
	w := newWorld(t)
	w.policy.Limits.Freeze = 20 * time.Millisecond
	d := w.daemon()
	free := make(chan struct{})
	w.tap = on(call, false, func() error {
		w.mu.Lock()
		g := w.guard
		w.mu.Unlock()
		if guarded {
			time.AfterFunc(w.policy.Limits.Freeze, func() { g.fire(guard.Deadline) })
		}
		<-free
		return nil
	})
	began := time.Now()
	_, err := w.take(t.Context(), d)
	if took := time.Since(began); api.Of(err) != api.Timeout || took > graceAfterLimit+10*time.Second {
		t.Errorf("after %v: %v", took, err)
	}
	what := strings.TrimSuffix(strings.Fields(call)[1], "#2")
	if f := w.frozen("ours"); len(f) > 0 && !slices.Equal(f, []string{what}) {
		t.Errorf("while %s is stuck, frozen: %v", call, f)
	}
	if s := w.suspended(); len(s) > 1 {
		t.Errorf("while %s is stuck, suspended: %v", call, s)
	}
	w.remembered(t, d, call)
	close(free)
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		f, s := w.frozen("ours"), w.suspended()
		if len(f)+len(s)+w.holds("calls")+w.holds("counters")+w.holds("filesystems")+len(leftovers(t, d))+d.Frozen().Filesystems == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("after %s came back, frozen: %v, suspended: %v", call, f, s)
		}
	}
	w.mu.Lock()
	w.wrong = slices.DeleteFunc(w.wrong, func(s string) bool { // what is stuck in its thaw is frozen when the writers are told
		return strings.HasSuffix(s, "while ["+what+"] are frozen")
	})
	w.mu.Unlock()
	w.nothing(t, d)
}

// remembered checks that a start, or the panic verb, would know what to release while the kernel has not come back.
func (w *world) remembered(t *testing.T, d *Daemon, call string) {
	t.Helper()
	left := leftovers(t, d)
	if len(left) != 1 {
		t.Fatalf("while %s is stuck, there are %d journals", call, len(left))
	}
	window, _, begun := left[0].Last("window")
	if probe, _, _ := left[0].Last("probe"); probe != journal.Doing && window != journal.Doing || begun != (d.Frozen().Filesystems > 0) {
		t.Errorf("while %s is stuck, the probe is %q, the window %q, frozen %+v", call, probe, window, d.Frozen())
	}
}

func leftovers(t *testing.T, d *Daemon) []journal.Leftover {
	t.Helper()
	left, err := journal.Leftovers(d.journalDir())
	if err != nil {
		t.Fatal(err)
	}
	return left
}
