package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/fsfreeze/guard"
	"github.com/fermata-project/fermata/hooks"
)

// quiesce holds on a world, and calls act when everything is held; what act returns is told at the release.
func (w *world) quiesce(ctx context.Context, d *Daemon, r api.QuiesceRequest, act func() bool) (*api.Manifest, error) {
	release := make(chan bool, 1)
	held := func() { go func() { release <- act() }() }
	return d.Quiesce(ctx, r, api.Hold{Held: held, Release: release}, func(step string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.step = step
	})
}

func byPolicy() api.QuiesceRequest { return api.QuiesceRequest{Policy: "p", For: 10 * time.Second} }

func (w *world) told(name string) []hooks.Phase {
	w.mu.Lock()
	defer w.mu.Unlock()
	if x := w.writers[name]; x != nil {
		return slices.Clone(x.told)
	}
	return nil
}

func TestQuiesce(t *testing.T) {
	w := newWorld(t)
	d := w.daemon()
	m, err := w.quiesce(t.Context(), d, byPolicy(), func() bool {
		if got := w.frozen("ours"); !slices.Equal(got, []string{"a", "b", "img"}) {
			t.Errorf("frozen while held: %v", got)
		}
		for _, x := range w.writers {
			if !x.holding.Load() {
				t.Errorf("writer %s does not hold", x.spec.Name)
			}
		}
		if s := d.Status(); s.Running == "" || s.Phase != "window" {
			t.Errorf("status %+v", s)
		}
		if len(w.suspended()) > 0 || len(w.snapshots()) > 0 {
			t.Error("a provider has done something")
		}
		time.Sleep(20 * time.Millisecond)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	w.clean(t, d)
	var window []string
	for _, p := range m.Phases {
		if p.Window {
			window = append(window, p.Name)
		}
	}
	if !slices.Equal(window, quietPhases) || m.Window < 20*time.Millisecond || m.State != api.Released || len(m.Volumes) != 4 || m.ID == "" {
		t.Errorf("got %+v", m)
	}
	if m.Consistency != api.Crash || len(m.Reasons) != 1 || !strings.Contains(m.Reasons[0], "was not frozen") {
		t.Errorf("the raw volume: %s, %v", m.Consistency, m.Reasons)
	}
	want := []hooks.Phase{hooks.PhasePrepare, hooks.PhaseFreeze, hooks.PhaseThaw, hooks.PhasePost}
	for _, name := range []string{"web", "db"} {
		if got := w.told(name); !slices.Equal(got, want) {
			t.Errorf("writer %s was told %v", name, got)
		}
		if ev := w.writers[name].events[3]; ev.Outcome != hooks.OutcomeOK {
			t.Errorf("outcome %s", ev.Outcome)
		}
	}
	if s := w.snapshots(); len(s) > 0 || len(d.Sets()) > 0 {
		t.Errorf("left: %+v", s)
	}
}

// What the requester could not do is no success for the writers, though the hold lasted.
func TestQuiesceWasted(t *testing.T) {
	w := newWorld(t)
	d := w.daemon()
	if _, err := w.quiesce(t.Context(), d, byPolicy(), func() bool { return false }); err != nil {
		t.Fatal(err)
	}
	w.nothing(t, d)
	if x := w.writers["db"]; x.events[2].Outcome != hooks.OutcomeFailed || x.events[3].Outcome != hooks.OutcomeFailed {
		t.Errorf("told %v with %+v", x.told, x.events)
	}
}

func TestQuiesceWritersOnly(t *testing.T) {
	for name, tt := range map[string]struct {
		request api.QuiesceRequest
		volumes []string
	}{
		"policy":  {api.QuiesceRequest{Policy: "p"}, []string{"a", "b", "img"}},
		"writers": {api.QuiesceRequest{Writers: []string{"db"}}, []string{"a", "b", "img"}},
		"volumes": {api.QuiesceRequest{Writers: []string{"db"}, Volumes: []string{"b"}}, []string{"b"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			d := w.daemon()
			r := tt.request
			r.WritersOnly, r.For = true, time.Second
			for i := range r.Volumes {
				r.Volumes[i] = w.path(r.Volumes[i])
			}
			m, err := w.quiesce(t.Context(), d, r, func() bool {
				if got := w.frozen("ours"); len(got) > 0 {
					t.Errorf("frozen: %v", got)
				}
				return w.writers["db"].holding.Load()
			})
			if err != nil {
				t.Fatal(err)
			}
			w.clean(t, d)
			var want []string
			for _, v := range tt.volumes {
				want = append(want, w.path(v))
			}
			if got := w.writers["db"].events[0].Volumes; !slices.Equal(got, want) {
				t.Errorf("told volumes %v, want %v", got, want)
			}
			if m.Consistency != api.Application || len(m.Volumes) > 0 {
				t.Errorf("got %+v", m)
			}
			for _, c := range w.calls {
				if strings.HasPrefix(c, "freeze") || strings.HasPrefix(c, "open ") {
					t.Errorf("%s", c)
				}
			}
		})
	}
}

// Whatever ends a hold before its release: it is an error of a class that says so, nothing stays held, and the writers know.
func TestQuiesceBroken(t *testing.T) {
	for name, tt := range map[string]struct {
		act   func(w *world, cancel func())
		limit time.Duration
		class api.Class
		text  string
	}{
		"not released": {func(w *world, _ func()) {}, 100 * time.Millisecond, api.Timeout, "was not released within 100ms"},
		"cancelled":    {func(_ *world, cancel func()) { cancel() }, 10 * time.Second, api.Cancelled, "the hold was cancelled"},
		"a writer lets go": {func(w *world, _ func()) { w.writers["web"].lost.Store(true) }, 10 * time.Second, api.Broken,
			"a writer let go before the hold was released"},
		"the guard stops": {func(w *world, _ func()) { w.guard.fire(guard.Stopped) }, 10 * time.Second, api.Broken, "the guard ended the hold"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			d := w.daemon()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r := byPolicy()
			r.For = tt.limit
			never := make(chan bool)
			begun := time.Now()
			m, err := d.Quiesce(ctx, r, api.Hold{Held: func() { tt.act(w, cancel) }, Release: never}, nil)
			if m != nil || api.Of(err) != tt.class || !strings.Contains(fmt.Sprint(err), tt.text) {
				t.Errorf("got %v, of class %s", err, api.Of(err))
			}
			if took := time.Since(begun); took > 8*time.Second {
				t.Errorf("it took %v", took)
			}
			w.nothing(t, d)
		})
	}
}

// What is found out only at the release.
func TestQuiesceDisproved(t *testing.T) {
	for name, tt := range map[string]struct {
		act  func(w *world)
		text string
	}{
		"somebody thaws": {func(w *world) { w.freeze(devA, "") }, "the hold was broken"},
		"a write":        {func(w *world) { w.mu.Lock(); w.systems[devB].writes.Written++; w.mu.Unlock() }, "was written while frozen"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			d := w.daemon()
			_, err := w.quiesce(t.Context(), d, byPolicy(), func() bool { tt.act(w); return true })
			if api.Of(err) != api.Broken || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v, of class %s", err, api.Of(err))
			}
			w.nothing(t, d)
		})
	}
}

func TestQuiesceRefuses(t *testing.T) {
	w := newWorld(t)
	d := w.daemon()
	for name, r := range map[string]api.QuiesceRequest{
		"no time":                   {Policy: "p"},
		"too long":                  {Policy: "p", For: api.MaxHold + 1},
		"nothing":                   {For: time.Second},
		"writers without a volume":  {Writers: []string{"db"}, For: time.Second},
		"writers only, without any": {Volumes: []string{w.path("a")}, WritersOnly: true, For: time.Second},
		"unknown writer":            {Writers: []string{"nobody"}, WritersOnly: true, For: time.Second},
		"unknown policy":            {Policy: "q", For: time.Second},
		"both":                      {Policy: "p", Volumes: []string{w.path("a")}, For: time.Second},
	} {
		if _, err := w.quiesce(t.Context(), d, r, func() bool { t.Error("held: " + name); return true }); api.Of(err) != api.Invalid {
			t.Errorf("%s: %v, of class %s", name, err, api.Of(err))
		}
	}
	if len(w.calls) > 0 {
		t.Errorf("calls: %v", w.calls)
	}
	// One at a time, sets included.
	release, err := d.turn.take(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	r := byPolicy()
	r.FailIfBusy = true
	if _, err := w.quiesce(t.Context(), d, r, nil); api.Of(err) != api.Busy {
		t.Errorf("busy: %v", err)
	}
	release()
	w.freeze(devB, "theirs")
	if _, err := w.quiesce(t.Context(), d, r, func() bool { t.Error("held"); return true }); api.Of(err) != api.Refused {
		t.Errorf("frozen by somebody else: %v", err)
	}
	if got := w.frozen("theirs"); !slices.Equal(got, []string{"b"}) {
		t.Errorf("theirs: %v", got)
	}
	w.nothing(t, d)
}

// Consistency is claimed as for a set: less than the policy wants is refused, also when that is known only afterwards.
func TestQuiesceConsistency(t *testing.T) {
	w := newWorld(t)
	w.policy.Consistency = config.ConsistencyFilesystem
	d := w.daemon()
	if _, err := w.quiesce(t.Context(), d, byPolicy(), func() bool { return true }); api.Of(err) != api.Failed || !strings.Contains(err.Error(), "only crash") {
		t.Errorf("got %v", err)
	}
	w.nothing(t, d)
	r := byPolicy()
	r.Policy, r.Volumes, r.Writers = "", []string{w.path("a"), w.path("b")}, []string{"db"}
	m, err := w.quiesce(t.Context(), d, r, func() bool { return true })
	if err != nil || m.Consistency != api.Application {
		t.Errorf("got %+v, %v", m, err)
	}
}

// Every call that a hold makes can fail, before or after its effect.
func TestQuiesceEveryCallCanFail(t *testing.T) {
	plan := newWorld(t)
	if _, err := plan.quiesce(t.Context(), plan.daemon(), byPolicy(), func() bool { return true }); err != nil {
		t.Fatal(err)
	}
	last := slices.IndexFunc(plan.calls, func(c string) bool { return strings.HasPrefix(c, "writer-post") })
	tried := map[string]int{}
	for i, call := range plan.calls {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s after=%v", call, after), func(t *testing.T) {
				w := newWorld(t)
				d := w.daemon()
				w.tap = on(call, after, func() error { return errInjected })
				m, err := w.quiesce(t.Context(), d, byPolicy(), func() bool { return true })
				switch {
				case i >= last:
					if err != nil || !strings.Contains(m.Reasons[len(m.Reasons)-1], "injected") {
						t.Errorf("the hold had lasted: got %+v, %v", m, err)
					}
					w.clean(t, d)
				case strings.HasPrefix(call, "thaw "): // tried again
					if err != nil {
						t.Error(err)
					}
					w.clean(t, d)
				default:
					tried[plan.steps[call]]++
					if !errors.Is(err, errInjected) && !strings.Contains(fmt.Sprint(err), "injected") {
						t.Errorf("got %v", err)
					}
					w.nothing(t, d)
				}
			})
		}
	}
	for _, s := range (&transaction{}).quiesceSteps() {
		if s.name != "verify" && tried[s.name] == 0 { // which calls nobody: it judges
			t.Errorf("nothing failed in step %s", s.name)
		}
	}
}

// A daemon that dies in the hold: the next one releases what its journal names.
func TestQuiesceDaemonDies(t *testing.T) {
	w := newWorld(t)
	d := w.daemon()
	var dead *world
	if _, err := w.quiesce(t.Context(), d, byPolicy(), func() bool { dead = w.after(); return true }); err != nil {
		t.Fatal(err)
	}
	if got := dead.frozen("ours"); len(got) != 3 {
		t.Fatalf("frozen at its death: %v", got)
	}
	next := dead.daemon()
	if err := next.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := dead.frozen("ours"); len(got) > 0 {
		t.Errorf("still frozen: %v", got)
	}
	dead.clean(t, next)
}
