package daemon

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/fsfreeze/guard"
	"github.com/fermata-project/fermata/hooks"
)

func TestVerdict(t *testing.T) {
	thawed := &fsfreeze.Error{Op: "thaw", Point: "/srv", Err: fmt.Errorf("%w: %w", unix.EINVAL, fsfreeze.ErrThawed)}
	stuck := &fsfreeze.Error{Op: "thaw", Point: "/srv", Err: unix.EIO}
	released := guard.Report{Released: []string{"/srv"}}
	tests := []struct {
		name  string
		e     evidence
		class api.Class
		text  string
	}{
		{"held", evidence{ended: guard.Closed}, "", ""},
		{"thawed by somebody else", evidence{ended: guard.Closed, thaw: []error{thawed}}, api.Broken, "the hold was broken: cannot thaw /srv: invalid argument: somebody else"},
		{"not thawed", evidence{ended: guard.Closed, thaw: []error{stuck}}, api.Failed, "cannot thaw /srv: input/output error"},
		{"the guard fired", evidence{ended: guard.Deadline, report: released}, api.Timeout, "too long: the guard released [/srv]"},
		{"the guard was stopped", evidence{ended: guard.Stopped, report: released}, api.Broken, "guard was stopped"},
		{"the guard took us for dead", evidence{ended: guard.Died, report: released}, api.Broken, "daemon died"},
		{"the guard never watched", evidence{}, api.Broken, "the guard ended the hold"},
		{"the guard is gone", evidence{ended: guard.Closed, guardErr: unix.EPIPE}, api.Broken, "cannot be proven: broken pipe"},
		{"a writer let go", evidence{ended: guard.Closed, holding: hooks.ErrNotHolding}, api.Broken, "let go before the capture"},
		{"an origin was written", evidence{ended: guard.Closed, writes: []wrote{{"vg/a", dm.Writes{Written: 3}, dm.Writes{Written: 5}}}}, api.Broken, "vg/a was written while frozen (2 sectors written, 0 discarded)"},
		{"writes cannot be counted", evidence{ended: guard.Closed, counters: []error{errInjected}}, api.Broken, "cannot be proven: injected"},
		{"resumed by somebody else", evidence{ended: guard.Closed, providers: []error{fmt.Errorf("cannot resume vg/a: %w", provider.ErrResumed)}}, api.Broken, "the hold was broken: cannot resume vg/a: somebody else resumed it"},
		{"the pool lost writes", evidence{ended: guard.Closed, providers: []error{nil, provider.ErrPool}}, api.Failed, "not healthy"},
		{"the worst is told first", evidence{ended: guard.Deadline, thaw: []error{thawed}, providers: []error{provider.ErrPool}}, api.Broken, "not healthy"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.e.verdict()
			if tt.class == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || api.Of(err) != tt.class || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got class %s: %v", api.Of(err), err)
			}
		})
	}
	if err := (&evidence{ended: guard.Closed, thaw: []error{thawed}}).verdict(); !errors.Is(err, fsfreeze.ErrThawed) || !errors.Is(err, unix.EINVAL) {
		t.Errorf("the cause is lost: %v", err)
	}
}

func TestCounted(t *testing.T) {
	var e evidence
	e.counted(&counter{volume: "same", before: dm.Writes{Written: 1}, after: dm.Writes{Written: 1}})
	e.counted(&counter{volume: "moved", before: dm.Writes{Written: 1}, after: dm.Writes{Written: 2}})
	e.counted(&counter{volume: "unknown", err: errInjected})
	if len(e.writes) != 1 || e.writes[0].volume != "moved" || len(e.counters) != 1 || !errors.Is(e.counters[0], errInjected) {
		t.Errorf("got %+v", e)
	}
}

func TestClaimAndAcceptable(t *testing.T) {
	frozen := member{vol: provider.Volume{Name: "vg/a"}, freeze: true}
	raw := member{vol: provider.Volume{Name: "vg/raw"}, unfrozen: "no filesystem of it is mounted"}
	db := config.Writer{Name: "db"}
	failed := []hooks.Reason{{Writer: "db", Phase: hooks.PhaseFreeze, Err: errInjected}}
	states := func(s hooks.State) map[string]hooks.State { return map[string]hooks.State{"db": s} }
	tests := []struct {
		name    string
		members []member
		writers []config.Writer
		states  map[string]hooks.State
		failed  []hooks.Reason
		want    api.Consistency
		reasons string
	}{
		{"writers held", []member{frozen}, []config.Writer{db}, states(hooks.StateReleased), nil, api.Application, "[]"},
		{"a writer whose application does not run", []member{frozen}, []config.Writer{db}, states(hooks.StateInactive), nil, api.Application, "[]"},
		{"no writers", []member{frozen}, nil, nil, nil, api.Filesystem, "[]"},
		{"a writer failed", []member{frozen}, []config.Writer{db}, states(hooks.StateFailed), failed, api.Filesystem, "[writer db: injected]"},
		{"a writer never held", []member{frozen}, []config.Writer{db}, states(hooks.StatePrepared), nil, api.Filesystem, "[writer db did not hold: it is prepared]"},
		{"a writer is not known", []member{frozen}, []config.Writer{db}, nil, nil, api.Filesystem, "[writer db did not hold: it is ]"},
		{"a raw volume", []member{frozen, raw}, []config.Writer{db}, states(hooks.StateReleased), nil, api.Crash, "[vg/raw was not frozen: no filesystem of it is mounted]"},
		{"a raw volume and a writer that failed", []member{raw}, []config.Writer{db}, states(hooks.StateFailed), failed, api.Crash, "[writer db: injected vg/raw was not frozen: no filesystem of it is mounted]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, reasons := claim(plan{members: tt.members}, effective{writers: tt.writers}, tt.states, tt.failed)
			if got != tt.want || fmt.Sprint(reasons) != tt.reasons {
				t.Errorf("got %s, %v", got, reasons)
			}
			for _, least := range []api.Consistency{api.Crash, api.Filesystem, api.Application} {
				err := acceptable(got, reasons, effective{Policy: config.Policy{Consistency: config.Consistency(least)}})
				if ok := tt.want.Rank() >= least.Rank(); (err == nil) != ok || err != nil && api.Of(err) != api.Failed {
					t.Errorf("%s where %s is the least: %v", got, least, err)
				}
			}
		})
	}
}

func TestNewID(t *testing.T) {
	w := newWorld(t)
	seen := map[string]bool{}
	last := ""
	for i := range 200 {
		id := newID(w.instant(i))
		if len(id) != 20 || id[8] != 'T' || id[15] != '_' || strings.Trim(id, "0123456789abcdefT_") != "" {
			t.Fatalf("got %q", id)
		}
		if seen[id] || i > 0 && id[:15] < last[:15] {
			t.Errorf("%q after %q", id, last)
		}
		seen[id], last = true, id
	}
	if id := newID(w.instant(0)); !strings.HasPrefix(id, "20261120T114653_") {
		t.Errorf("not in UTC: %q", id)
	}
}
