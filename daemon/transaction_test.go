package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/fsfreeze/guard"
	"github.com/fermata-project/fermata/hooks"
)

// rehearse takes a set without any fault and returns its world: what was called, in which step.
func rehearse(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	d := w.daemon()
	m, err := w.take(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	w.everything(t, d, m)
	return w
}

// finished tells whether a call comes when the set is finished already: after the last provider's Finalize.
func (w *world) finished(call string) bool {
	last := 0
	for i, c := range w.calls {
		if strings.HasPrefix(c, "Finalize") {
			last = i
		}
	}
	return slices.Index(w.calls, call) > last
}

// on makes the tap that acts once, at one call: before it, or after it.
func on(call string, after bool, act func() error) func(string, bool) error {
	return func(c string, a bool) error {
		if c == call && a == after {
			return act()
		}
		return nil
	}
}

func TestEveryCallCanFail(t *testing.T) {
	plan := rehearse(t)
	tried := map[string]int{}
	for _, call := range plan.calls {
		for _, after := range []bool{false, true} {
			name := call + " refused"
			if after {
				name = call + " had its effect and failed"
			}
			t.Run(name, func(t *testing.T) {
				w := newWorld(t)
				d := w.daemon()
				if err := d.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				w.reset() // calls are counted from here, as in the plan
				w.tap = on(call, after, func() error { return errInjected })
				m, err := w.take(t.Context(), d)
				switch {
				case plan.finished(call):
					if err != nil || len(m.Reasons) < 2 || !strings.Contains(m.Reasons[len(m.Reasons)-1], "injected") {
						t.Errorf("the set was finished: got %+v, %v", m, err)
					}
					w.everything(t, d, m)
				case strings.HasPrefix(call, "thaw ") || strings.HasPrefix(call, "PostCommit "): // tried again
					if err != nil {
						t.Fatal(err)
					}
					w.everything(t, d, m)
				default:
					tried[plan.steps[call]]++
					w.nothing(t, d)
					if !errors.Is(err, errInjected) && !strings.Contains(fmt.Sprint(err), "injected") {
						t.Errorf("got %v", err)
					}
					if want := classWhen(plan.steps[call], call); api.Of(err) != want {
						t.Errorf("class %s, want %s: %v", api.Of(err), want, err)
					}
				}
				if s := d.Sets(); !plan.finished(call) && (len(s) == 0 || s[0].ID != oldSet) {
					t.Errorf("the old set is gone: %+v", s)
				}
				if err := d.DeleteSet(t.Context(), oldSet); err != nil && !plan.finished(call) {
					t.Errorf("the daemon is not usable any more: %v", err)
				}
			})
		}
	}
	for _, s := range (&transaction{}).steps() {
		if tried[s.name] == 0 {
			t.Errorf("nothing failed in step %s", s.name)
		}
	}
}

// classWhen is the class of a set that failed for no reason that anybody knows more of.
func classWhen(step, call string) api.Class {
	name, _, _ := strings.Cut(call, " ")
	switch {
	case name == "Admit":
		return api.Refused
	case step == "resolve":
		return api.Invalid
	case name == "count", step == "unguard": // it cannot be proven that the hold was real
		return api.Broken
	}
	return api.Failed
}

func TestCancelledAnywhere(t *testing.T) {
	plan := rehearse(t)
	for _, call := range plan.calls {
		t.Run(call, func(t *testing.T) {
			w := newWorld(t)
			ctx, cancel := context.WithCancel(t.Context())
			w.tap = on(call, true, func() error { cancel(); return nil })
			d := w.daemon()
			m, err := w.take(ctx, d)
			if plan.steps[call] == "finalise" {
				if err != nil || len(m.Reasons) != 1 {
					t.Fatalf("too late to be cancelled: %+v, %v", m, err)
				}
				w.everything(t, d, m)
				return
			}
			w.nothing(t, d)
			if api.Of(err) != api.Cancelled {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A journal that cannot be written any more ends the set, and does not keep it from being undone.
func TestJournalBreaksAnywhere(t *testing.T) {
	plan := rehearse(t)
	for _, call := range plan.calls {
		if plan.steps[call] == "finalise" {
			continue
		}
		t.Run(call, func(t *testing.T) {
			w := newWorld(t)
			d := w.daemon()
			w.tap = on(call, false, func() error {
				d.mu.Lock()
				defer d.mu.Unlock()
				return d.running.journal.Close()
			})
			if _, err := w.take(t.Context(), d); err == nil {
				t.Error("a set was taken without a journal")
			}
			w.nothing(t, d)
		})
	}
}

// Undoing goes on when a part of it fails.
func TestUndoingCanFail(t *testing.T) {
	plan := rehearse(t)
	last := map[string]string{} // step → its last call that is not tried again
	for _, call := range plan.calls {
		if !strings.HasPrefix(call, "thaw ") && !strings.HasPrefix(call, "PostCommit ") {
			last[plan.steps[call]] = call
		}
	}
	for step, call := range last {
		if step == "finalise" {
			continue
		}
		before := failing(t, call, "")
		for _, undo := range before.calls[slices.Index(before.calls, call)+1:] {
			if plan.steps[undo] != "" && slices.Contains(plan.calls, undo) && !releases[strings.Fields(undo)[0]] && !strings.HasPrefix(undo, "writer-thaw") {
				continue
			}
			t.Run(step+"/"+undo, func(t *testing.T) {
				w := failing(t, call, undo)
				if f, s := w.frozen("ours"), w.suspended(); len(f)+len(s) > 0 {
					t.Errorf("frozen %v, suspended %v", f, s)
				}
				next := w.after()
				d := next.daemon()
				if err := d.Start(t.Context()); err != nil {
					t.Error(err)
				}
				next.nothing(t, d)
			})
		}
	}
}

// failing takes a set in which one call fails, and, while it is undone, another.
func failing(t *testing.T, call, undo string) *world {
	t.Helper()
	w := newWorld(t)
	w.tap = func(c string, after bool) error {
		if !after && (c == call || c == undo) {
			return fmt.Errorf("%s: %w", c, errInjected)
		}
		return nil
	}
	_, err := w.take(t.Context(), w.daemon())
	if err == nil {
		t.Fatalf("%s failed, and a set was taken", call)
	}
	if undo != "" && w.count["Abort alpha"] > 0 && !strings.Contains(err.Error(), undo) && !strings.HasPrefix(undo, "Snapshots") {
		t.Errorf("the requester is not told that %s failed too: %v", undo, err)
	}
	return w
}

// Failures that have a meaning, and the class that they give.
func TestClasses(t *testing.T) {
	overtaken := &fsfreeze.Error{Op: "freeze", Point: "/srv", Err: fsfreeze.ErrOvertaken}
	late := fmt.Errorf("not within 5s: %w", context.DeadlineExceeded)
	tests := []struct {
		name  string
		call  string // where; with "+", after it
		act   func(w *world, d *Daemon) error
		class api.Class
		text  string
	}{
		{"a filesystem is frozen by somebody else", "mounts#1", func(w *world, _ *Daemon) error { w.freeze(devB, "theirs"); return nil }, api.Refused, "somebody else has frozen it"},
		{"somebody freezes it after the probe", "Lock beta#1", func(w *world, _ *Daemon) error { w.freeze(devB, "theirs"); return nil }, api.Refused, "somebody else has frozen it"},
		{"the freeze is overtaken", "freeze b#2", func(*world, *Daemon) error { return overtaken }, api.Timeout, "deadline"},
		{"no room", "Admit alpha#1", func(*world, *Daemon) error { return fmt.Errorf("%w: pool", provider.ErrNoRoom) }, api.Refused, "not enough room"},
		{"a writer fails to prepare", "writer-prepare db#1", func(*world, *Daemon) error { return errInjected }, api.Failed, "cannot prepare writer db"},
		{"a writer is late to prepare", "writer-prepare db#1", func(*world, *Daemon) error { return late }, api.Timeout, "cannot prepare writer db"},
		{"a writer is late to freeze", "writer-freeze db#1", func(*world, *Daemon) error { return late }, api.Timeout, "cannot freeze writer db"},
		{"a writer lets go before the capture", "PreCommit beta#1", func(w *world, _ *Daemon) error { w.writers["db"].lost.Store(true); return nil }, api.Broken, "hold lost"},
		{"a writer lets go after it", "Commit beta#2+", func(w *world, _ *Daemon) error { w.writers["web"].lost.Store(true); return nil }, api.Broken, "hold lost"},
		{"a writer does not hold at the instant, and says nothing", "PreCommit beta#1", func(w *world, _ *Daemon) error { w.writers["db"].holding.Store(false); return nil }, api.Broken, "a writer let go before the capture"},
		{"a filesystem is thawed before the capture", "PreCommit alpha#1", func(w *world, _ *Daemon) error { w.freeze(devB, ""); return nil }, api.Broken, "somebody else thawed it"},
		{"a filesystem is thawed after it", "PostCommit alpha#2", func(w *world, _ *Daemon) error { w.freeze(devA, ""); return nil }, api.Broken, "somebody else thawed it"},
		{"an origin is written", "Commit alpha#1", func(w *world, _ *Daemon) error { w.systems[devB].writes.Written++; return nil }, api.Broken, "was written while frozen"},
		{"somebody changes the pool", "Lock alpha#1", func(w *world, _ *Daemon) error { return w.storage["alpha"].Remove("alpha/a." + oldSet) }, api.Failed, "somebody changed the pool"},
		{"somebody suspends an origin", "Lock beta#1", func(w *world, _ *Daemon) error { w.storage["beta"].Suspend(253<<8|4, true); return nil }, api.Failed, "somebody else has suspended it"},
		{"somebody resumes an origin between two captures", "Commit beta#1", func(w *world, _ *Daemon) error { w.storage["alpha"].Suspend(253<<8|1, false); return nil }, api.Broken, "somebody else resumed it during the hold"},
		{"the pool loses writes", "thaw a#2", func(w *world, _ *Daemon) error { w.storage["beta"].Break(); return nil }, api.Failed, "not healthy"},
		{"the guard fires", "Commit beta#1", func(w *world, _ *Daemon) error { w.guard.fire(guard.Deadline); return nil }, api.Timeout, "freeze took too long"},
		{"the guard is stopped", "count a#2+", func(w *world, _ *Daemon) error { w.guard.fire(guard.Stopped); return nil }, api.Broken, "guard was stopped"},
		{"the guard is gone", "guard-close#2", func(*world, *Daemon) error { return unix.EPIPE }, api.Broken, "cannot be proven"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			d := w.daemon()
			call, after := strings.CutSuffix(tt.call, "+")
			hit := false
			w.tap = on(call, after, func() error { hit = true; return tt.act(w, d) })
			_, err := w.take(t.Context(), d)
			if !hit {
				t.Fatalf("%s never happened", tt.call)
			}
			if api.Of(err) != tt.class || !strings.Contains(fmt.Sprint(err), tt.text) {
				t.Errorf("got class %s: %v", api.Of(err), err)
			}
			if s := w.suspended(); len(s) == 1 && tt.name == "somebody suspends an origin" {
				w.storage["beta"].Suspend(s[0], false) // theirs: it was left alone
			}
			w.nothing(t, d)
		})
	}
}

// Somebody else's freeze survives whatever we do.
func TestForeignFreezeIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	w.freeze(devB, "theirs")
	d := w.daemon()
	if _, err := w.take(t.Context(), d); !errors.Is(err, fsfreeze.ErrFrozen) || !errors.Is(err, unix.EBUSY) {
		t.Errorf("got %v", err)
	}
	if f := w.frozen("theirs"); len(f) != 1 {
		t.Errorf("frozen by somebody else: %v", f)
	}
	if w.count["Prepare alpha"] > 0 || w.count["writer-prepare db"] > 0 {
		t.Error("something was touched before it was known")
	}
	w.nothing(t, d)
}

// The guard can end the hold at any moment of the window.
func TestGuardFiresAnywhere(t *testing.T) {
	plan := rehearse(t)
	for _, call := range plan.calls {
		if plan.steps[call] != "window" {
			continue
		}
		t.Run(call, func(t *testing.T) {
			w := newWorld(t)
			d := w.daemon()
			w.tap = on(call, false, func() error { w.guard.fire(guard.Deadline); return nil })
			_, err := w.take(t.Context(), d)
			if api.Of(err) != api.Timeout {
				t.Errorf("got class %s: %v", api.Of(err), err)
			}
			w.nothing(t, d)
		})
	}
}

// A retry helps where it can: a hold that was broken once.
func TestRetry(t *testing.T) {
	for _, tt := range []struct {
		breaks, retries int
		sets            int
	}{{0, 0, 1}, {1, 0, 0}, {1, 1, 1}, {2, 1, 0}, {2, 5, 1}} {
		w := newWorld(t)
		broken := 0
		w.tap = func(c string, after bool) error {
			if strings.HasPrefix(c, "PreCommit beta#") && after && broken < 2*tt.breaks {
				broken++
				w.freeze(devB, "")
			}
			return nil
		}
		d := w.daemon()
		_, err := d.CreateSet(t.Context(), api.Request{Policy: "p", Retry: tt.retries}, nil)
		if sets := len(d.Sets()) - 1; sets != tt.sets || (err == nil) != (tt.sets == 1) {
			t.Errorf("broken %d times, %d retries: %d sets, %v", tt.breaks, tt.retries, sets, err)
		}
		w.clean(t, d)
	}
	w := newWorld(t)
	w.tap = on("Admit alpha#1", false, func() error { return errInjected })
	if _, err := w.daemon().CreateSet(t.Context(), api.Request{Policy: "p", Retry: 3}, nil); err == nil || w.count["Admit alpha"] != 1 {
		t.Errorf("a set that was refused was tried %d times: %v", w.count["Admit alpha"], err)
	}
}

// An optional writer costs consistency, not the set; and everybody is told how it went.
func TestDegraded(t *testing.T) {
	w := newWorld(t)
	w.policy.Volumes = w.policy.Volumes[:3]
	w.policy.OnFailure = "degrade"
	w.tap = on("writer-freeze db#1", false, func() error { return errInjected })
	d := w.daemon()
	m, err := w.take(t.Context(), d)
	if err != nil || m.Consistency != api.Filesystem || len(m.Reasons) != 1 || !strings.Contains(m.Reasons[0], "writer db: ") {
		t.Fatalf("got %+v, %v", m, err)
	}
	w.clean(t, d)
	if got := w.writers["db"].told; !slices.Equal(got, []hooks.Phase{"prepare", "freeze", "thaw", "abort"}) {
		t.Errorf("the failed writer was told %v", got)
	}
	if got := w.writers["web"].told; !slices.Equal(got, []hooks.Phase{"prepare", "freeze", "thaw", "post"}) {
		t.Errorf("the other one was told %v", got)
	}
}
