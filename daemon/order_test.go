package daemon

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/hooks"
)

// The order of a set: what holds is taken in one order and let go in the reverse one, and nothing comes between.
func TestOrderOfCalls(t *testing.T) {
	for range 20 { // providers and levels act in any order, or at once
		w := rehearse(t)
		is := func(prefix string) func(string) bool {
			return func(c string) bool { return strings.HasPrefix(c, prefix) }
		}
		first := func(prefix string) int { return slices.IndexFunc(w.calls, is(prefix)) }
		last := func(prefix string) int {
			calls := slices.Clone(w.calls)
			slices.Reverse(calls)
			return len(calls) - 1 - slices.IndexFunc(calls, is(prefix))
		}
		sequence := [][2]int{ // from … to, each after the one before
			{first("Admit"), last("Admit")},
			{first("open "), last("open ")},
			{slices.Index(w.calls, "guard#1"), slices.Index(w.calls, "guard#1")},
			{slices.Index(w.calls, "freeze img#1"), slices.Index(w.calls, "thaw a#1")},
			{slices.Index(w.calls, "guard-close#1"), slices.Index(w.calls, "guard-close#1")},
			{first("writer-prepare"), last("writer-prepare")},
			{first("Prepare"), last("Prepare")},
			{first("writer-freeze web"), first("writer-freeze web")}, // the front end stops asking
			{first("writer-freeze db"), first("writer-freeze db")},
			{first("Lock"), last("Lock")},
			{slices.Index(w.calls, "guard#2"), slices.Index(w.calls, "guard#2")},
			{min(slices.Index(w.calls, "freeze img#2"), slices.Index(w.calls, "freeze b#2")), max(slices.Index(w.calls, "freeze img#2"), slices.Index(w.calls, "freeze b#2"))},
			{slices.Index(w.calls, "freeze a#2"), slices.Index(w.calls, "freeze a#2")}, // it holds img's file
			{first("PreCommit"), last("PreCommit")},
			{first("Commit"), last("Commit")},
			{first("PostCommit"), last("PostCommit")},
			{slices.Index(w.calls, "thaw a#2"), slices.Index(w.calls, "thaw a#2")},
			{min(slices.Index(w.calls, "thaw img#2"), slices.Index(w.calls, "thaw b#2")), max(slices.Index(w.calls, "thaw img#2"), slices.Index(w.calls, "thaw b#2"))},
			{slices.Index(w.calls, "guard-close#2"), slices.Index(w.calls, "guard-close#2")},
			{first("Unlock"), last("Unlock")},
			{first("writer-thaw db"), first("writer-thaw db")},
			{first("writer-thaw web"), first("writer-thaw web")},
			{first("Verify"), last("Verify")},
			{first("Finalize"), last("Finalize")},
			{first("writer-post"), last("writer-post")},
			{first("close "), last("close ")},
		}
		for i, s := range sequence {
			if s[0] < 0 || s[1] < s[0] || i > 0 && s[0] <= sequence[i-1][1] {
				t.Fatalf("part %d comes at %v, after one at %v:\n%s", i, s, sequence[max(i-1, 0)], strings.Join(w.calls, "\n"))
			}
		}
		// Inside the window nothing is done but what belongs there.
		for _, c := range w.calls[sequence[11][0] : sequence[17][1]+1] {
			name, _, _ := strings.Cut(c, " ")
			if !slices.Contains([]string{"freeze", "count", "PreCommit", "Commit", "PostCommit", "thaw"}, name) {
				t.Errorf("%s inside the window", c)
			}
		}
	}
}

// The manifest tells what happened: the phases in their order, the window's parts with it, and what the writers said.
func TestManifest(t *testing.T) {
	w := newWorld(t)
	w.policy.Volumes, w.policy.Consistency, w.policy.Labels = w.policy.Volumes[:3], "application", map[string]string{"for": "backup"}
	d := w.daemon()
	var seen []string
	m, err := d.CreateSet(t.Context(), api.Request{Policy: "p", Labels: map[string]string{"night": "7"}}, func(s string) { seen = append(seen, s) })
	if err != nil {
		t.Fatal(err)
	}
	var names, window []string
	for _, p := range m.Phases {
		if p.Duration < 0 || p.Error != "" {
			t.Errorf("phase %+v", p)
		}
		if p.Window {
			window = append(window, p.Name)
		} else {
			names = append(names, p.Name)
		}
	}
	var steps []string
	for _, s := range (&transaction{policy: effective{writers: w.writing}}).steps() {
		steps = append(steps, s.name)
	}
	if !slices.Equal(names, steps) || !slices.Equal(seen, steps) || !slices.Equal(window, windowPhases) {
		t.Errorf("phases %v and %v, progress %v", names, window, seen)
	}
	if m.Consistency != api.Application || m.Window <= 0 || m.Duration < m.Window || m.Labels["for"] != "backup" || m.Labels["night"] != "7" || m.Policy != "p" {
		t.Errorf("got %+v", m)
	}
	for _, v := range m.Volumes {
		if !v.Frozen || v.Name != v.Volume+"."+m.ID || v.MountPoint == "" {
			t.Errorf("volume %+v", v)
		}
	}
	for _, x := range m.Writers {
		own := 4
		if x.Name == "db" {
			own = 5 // it recovers
		}
		if x.State != string(hooks.StateReleased) || x.Data["freeze"] == nil || len(x.Phases) != own ||
			x.Phases[2].Name != "hold" || !x.Phases[2].Window || x.Phases[2].Duration < m.Window {
			t.Errorf("writer %+v", x)
		}
		at := time.Duration(1)
		for _, p := range x.Phases { // they follow each other
			if p.Start < at || p.Start+p.Duration > m.Duration {
				t.Errorf("writer %s: %s began at %v, after %v, and took %v of %v", x.Name, p.Name, p.Start, at, p.Duration, m.Duration)
			}
			at = p.Start
		}
	}
	for _, x := range w.writers {
		for i, ev := range x.events {
			if ev.Set != m.ID || ev.Policy != "p" || len(ev.Volumes) != 3 || (i > 1 && ev.Stage == nil) != (ev.Outcome == hooks.OutcomeOK) {
				t.Errorf("writer %s was told %+v with %s", x.spec.Name, ev, x.told[i])
			}
		}
	}
}

// Writers are told how it went, also by what kind of failure.
func TestOutcome(t *testing.T) {
	for call, want := range map[string]hooks.Outcome{"Lock alpha#1": hooks.OutcomeFailed, "freeze b#2": hooks.OutcomeTimeout} {
		w := newWorld(t)
		w.tap = on(call, false, func() error {
			if want == hooks.OutcomeTimeout {
				return fsfreeze.ErrOvertaken
			}
			return errInjected
		})
		if _, err := w.take(t.Context(), w.daemon()); err == nil {
			t.Fatal("no failure")
		}
		for _, x := range w.writers {
			for i, p := range x.told {
				if (p == hooks.PhaseThaw || p == hooks.PhaseAbort) && x.events[i].Outcome != want {
					t.Errorf("%s: writer %s was told %s with outcome %q, want %q", call, x.spec.Name, p, x.events[i].Outcome, want)
				}
			}
		}
	}
}

// A plan touches nothing.
func TestDryRun(t *testing.T) {
	w := newWorld(t)
	d := w.daemon()
	m, err := d.CreateSet(t.Context(), api.Request{Policy: "p", DryRun: true}, nil)
	if err != nil || m.State != api.Planned || m.Consistency != api.Crash || len(m.Volumes) != 4 || len(m.Writers) != 2 {
		t.Errorf("got %+v, %v", m, err)
	}
	for _, c := range w.calls {
		if name, _, _ := strings.Cut(strings.TrimSuffix(c, "#1"), " "); !slices.Contains([]string{"mounts", "block-device", "Admit"}, name) {
			t.Errorf("%s in a dry run", c)
		}
	}
	if _, err := d.CreateSet(t.Context(), api.Request{Policy: "p", DryRun: true, Consistency: api.Application}, nil); api.Of(err) != api.Failed {
		t.Errorf("a plan that cannot have the consistency that was asked for: %v", err)
	}
	w.nothing(t, d)
}
