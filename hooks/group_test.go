package hooks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake is a writer that writes down its calls and fails where it is told to.
type fake struct {
	spec     Spec
	diary    *diary
	fail     map[Phase]error
	inactive bool
	wait     map[Phase]bool // until ctx is done
	lost     error          // what Holding says
	deaf     bool           // ignores ctx, too
}

type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) add(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (f *fake) phase(ctx context.Context, p Phase, ev Event) (Answer, error) {
	f.diary.add("%s %s %s", p, f.spec.Name, ev.Outcome)
	if f.deaf {
		select {}
	}
	if f.wait[p] {
		<-ctx.Done()
		return Answer{}, context.Cause(ctx)
	}
	return Answer{Inactive: p == PhasePrepare && f.inactive}, f.fail[p]
}

func (f *fake) Spec() Spec { return f.spec }
func (f *fake) Prepare(ctx context.Context, ev Event) (Answer, error) {
	return f.phase(ctx, PhasePrepare, ev)
}
func (f *fake) Freeze(ctx context.Context, ev Event) (Answer, error) {
	return f.phase(ctx, PhaseFreeze, ev)
}
func (f *fake) Thaw(ctx context.Context, ev Event) (Answer, error) {
	return f.phase(ctx, PhaseThaw, ev)
}
func (f *fake) Abort(ctx context.Context, ev Event) error {
	_, err := f.phase(ctx, PhaseAbort, ev)
	return err
}
func (f *fake) Post(ctx context.Context, ev Event) (Answer, error) {
	return f.phase(ctx, PhasePost, ev)
}
func (f *fake) Holding() error { return f.lost }
func (f *fake) Close() error   { f.diary.add("close %s", f.spec.Name); return nil }

// cast makes fakes "name:level[:optional|degrade]".
func cast(d *diary, names ...string) map[string]*fake {
	fakes := map[string]*fake{}
	for _, n := range names {
		parts := strings.Split(n, ":")
		s := Spec{Name: parts[0], Level: Level(parts[1]), Required: true}.withDefaults()
		if len(parts) > 2 {
			s.Required = parts[2] != "optional"
			if parts[2] == "degrade" {
				s.OnFailure = OnFailureDegrade
			}
		}
		fakes[parts[0]] = &fake{spec: s, diary: d, fail: map[Phase]error{}, wait: map[Phase]bool{}}
	}
	return fakes
}

func groupOf(fakes map[string]*fake, limit time.Duration) *Group {
	var writers []Writer
	for _, f := range fakes {
		writers = append(writers, f)
	}
	return NewGroup(writers, Event{Set: "s"}, limit)
}

// whole takes a group through a set as a transaction does.
func whole(g *Group) (prepare, freeze, thaw, end error) {
	ctx := context.Background()
	if prepare = g.Prepare(ctx); prepare != nil {
		return prepare, nil, nil, g.Abort(ctx, OutcomeFailed)
	}
	if freeze = g.Freeze(ctx); freeze != nil {
		return nil, freeze, g.Thaw(ctx, OutcomeFailed), g.Abort(ctx, OutcomeFailed)
	}
	if thaw = g.Thaw(ctx, OutcomeOK); thaw != nil {
		return nil, nil, thaw, g.Abort(ctx, OutcomeFailed)
	}
	return nil, nil, nil, g.Post(ctx, OutcomeOK)
}

var errNo = errors.New("no")

func TestGroupOrder(t *testing.T) {
	var d diary
	g := groupOf(cast(&d, "web:front-end", "db:back-end", "log:system"), 0)
	if p, f, th, e := whole(g); p != nil || f != nil || th != nil || e != nil {
		t.Fatal(p, f, th, e)
	}
	got := d.lines[3:9] // after the prepares, which come at once
	want := []string{"freeze web ", "freeze db ", "freeze log ", "thaw log ok", "thaw db ok", "thaw web ok"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if g.States()["db"] != StateReleased || len(g.Reasons()) != 0 || len(g.Results()) != 12 {
		t.Errorf("states %v, reasons %v, %d results", g.States(), g.Reasons(), len(g.Results()))
	}
}

// What each failure does to the set, to the other writers, and to the claim.
func TestGroupFailures(t *testing.T) {
	for _, test := range []struct {
		name    string
		writers []string
		spoil   func(map[string]*fake)
		diary   []string // sorted, without the prepares of all
		states  string
		reasons int
		err     string // the set's error; empty: none
	}{
		{
			"required fails at prepare", []string{"a:back-end", "b:back-end"},
			func(f map[string]*fake) { f["a"].fail[PhasePrepare] = errNo },
			[]string{"abort a failed", "abort b failed"}, "a=failed b=prepared", 0, "no",
		},
		{
			"optional fails at prepare", []string{"a:back-end:optional", "b:back-end"},
			func(f map[string]*fake) { f["a"].fail[PhasePrepare] = errNo },
			[]string{"abort a ok", "freeze b ", "post b ok", "thaw b ok"}, "a=failed b=released", 1, "",
		},
		{
			"degrading fails at freeze, and is thawed", []string{"a:back-end:degrade", "b:back-end"},
			func(f map[string]*fake) { f["a"].fail[PhaseFreeze] = errNo },
			[]string{"abort a ok", "freeze a ", "freeze b ", "post b ok", "thaw a ok", "thaw b ok"}, "a=failed b=released", 1, "",
		},
		{
			"required fails at freeze: later levels are not asked", []string{"a:front-end", "b:back-end", "c:system"},
			func(f map[string]*fake) { f["b"].fail[PhaseFreeze] = errNo },
			[]string{"abort a failed", "abort b failed", "abort c failed", "freeze a ", "freeze b ", "thaw a failed", "thaw b failed"},
			"a=released b=failed c=prepared", 0, "no",
		},
		{
			"inactive", []string{"a:back-end", "b:back-end"},
			func(f map[string]*fake) { f["a"].inactive = true },
			[]string{"freeze b ", "post b ok", "thaw b ok"}, "a=inactive b=released", 0, "",
		},
		{
			"required lost its hold", []string{"a:back-end", "b:system"},
			func(f map[string]*fake) { f["b"].fail[PhaseThaw] = fmt.Errorf("%w: no", ErrHoldLost) },
			[]string{"abort a failed", "abort b failed", "freeze a ", "freeze b ", "thaw a ok", "thaw b ok"}, "a=released b=failed", 0, "hold lost: no",
		},
		{
			"degrading lost its hold", []string{"a:back-end", "b:system:degrade"},
			func(f map[string]*fake) { f["b"].fail[PhaseThaw] = fmt.Errorf("%w: no", ErrHoldLost) },
			[]string{"abort b ok", "freeze a ", "freeze b ", "post a ok", "thaw a ok", "thaw b ok"}, "a=released b=failed", 1, "",
		},
		{
			"post fails", []string{"a:back-end"},
			func(f map[string]*fake) { f["a"].fail[PhasePost] = errNo },
			[]string{"freeze a ", "post a ok", "thaw a ok"}, "a=released", 0, "no",
		},
		{
			"one failure ends the other's wait", []string{"a:back-end", "b:back-end"},
			func(f map[string]*fake) { f["a"].fail[PhaseFreeze] = errNo; f["b"].wait[PhaseFreeze] = true },
			[]string{"abort a failed", "abort b failed", "freeze a ", "freeze b ", "thaw a failed", "thaw b failed"}, "a=failed b=failed", 0, "no",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var d diary
			fakes := cast(&d, test.writers...)
			test.spoil(fakes)
			g := groupOf(fakes, 0)
			prepare, freeze, thaw, end := whole(g)
			err := errors.Join(prepare, freeze, thaw, end)
			if test.err == "" && err != nil || test.err != "" && (err == nil || err.Error() != test.err) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			calls := d.lines[len(fakes):]
			slices.Sort(calls)
			if !slices.Equal(calls, test.diary) {
				t.Errorf("calls %q, want %q", calls, test.diary)
			}
			var states []string
			for name, s := range g.States() {
				states = append(states, name+"="+string(s))
			}
			slices.Sort(states)
			if got := strings.Join(states, " "); got != test.states {
				t.Errorf("states %s, want %s", got, test.states)
			}
			if len(g.Reasons()) != test.reasons {
				t.Errorf("reasons %v", g.Reasons())
			}
		})
	}
}

func TestGroupHolding(t *testing.T) {
	var d diary
	fakes := cast(&d, "a:back-end", "b:back-end:degrade", "c:back-end")
	fakes["c"].inactive = true
	fakes["c"].lost = ErrNotHolding
	g := groupOf(fakes, 0)
	if err := errors.Join(g.Prepare(context.Background()), g.Freeze(context.Background())); err != nil {
		t.Fatal(err)
	}
	fakes["b"].lost = ErrHoldLost
	if err := g.Holding(); err != nil {
		t.Errorf("Holding() = %v, though only one that may fail lost its hold", err)
	}
	if n := testing.AllocsPerRun(100, func() { _ = g.Holding() }); n != 0 {
		t.Errorf("Holding() allocates %v times", n)
	}
	fakes["a"].lost = ErrHoldLost
	if err := g.Holding(); !errors.Is(err, ErrHoldLost) || !strings.Contains(err.Error(), "writer a") {
		t.Errorf("Holding() = %v", err)
	}
}

// An application that is started between prepare and thaw was held by nobody.
func TestGroupStillInactive(t *testing.T) {
	for _, test := range []struct {
		name, writer  string
		change        func(*fake)
		lost          string
		states, asked string
	}{
		{"it still is", "a:back-end", func(*fake) {}, "", "a=inactive b=released", "prepare a , prepare b , freeze b , thaw b ok, prepare a "},
		{"it was started", "a:back-end", func(f *fake) { f.inactive = false }, "was started meanwhile", "a=failed b=released", ""},
		{"it cannot be told", "a:back-end", func(f *fake) { f.inactive, f.fail[PhasePrepare] = false, errNo }, errNo.Error(), "a=failed b=released", ""},
		{"one that may fail", "a:back-end:degrade", func(f *fake) { f.inactive = false }, "", "a=failed b=released", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var d diary
			fakes := cast(&d, test.writer, "b:back-end")
			fakes["a"].inactive = true
			g := groupOf(fakes, 0)
			ctx := t.Context()
			if err := errors.Join(g.Prepare(ctx), g.Freeze(ctx), g.Thaw(ctx, OutcomeOK)); err != nil {
				t.Fatal(err)
			}
			test.change(fakes["a"])
			err := g.StillInactive(ctx)
			if (err == nil) != (test.lost == "") || err != nil && (!errors.Is(err, ErrHoldLost) || !strings.Contains(err.Error(), test.lost)) {
				t.Errorf("StillInactive() = %v, want %q", err, test.lost)
			}
			states := fmt.Sprintf("a=%s b=%s", g.States()["a"], g.States()["b"])
			if states != test.states || (len(g.Reasons()) > 0) != (test.name == "one that may fail") {
				t.Errorf("%s, reasons %v", states, g.Reasons())
			}
			if err := g.Abort(ctx, OutcomeFailed); err != nil || slices.Contains(d.lines, "abort a failed") != (test.states[2:8] == "failed") {
				t.Errorf("Abort() = %v, calls %q", err, d.lines)
			}
			slices.Sort(d.lines[:2])
			if got := strings.Join(d.lines[:min(5, len(d.lines))], ", "); test.asked != "" && got != test.asked {
				t.Errorf("calls %q, want %q", got, test.asked)
			}
		})
	}
}

func TestGroupTotalLimit(t *testing.T) {
	var d diary
	fakes := cast(&d, "a:front-end", "b:back-end", "c:system")
	fakes["b"].wait[PhaseFreeze] = true
	g := groupOf(fakes, 50*time.Millisecond)
	if err := g.Prepare(context.Background()); err != nil {
		t.Fatal(err)
	}
	err := g.Freeze(context.Background())
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "not all writers held within 50ms") {
		t.Errorf("Freeze() = %v", err)
	}
	if slices.Contains(d.lines, "freeze c ") {
		t.Error("the next level was asked")
	}
}

// The end of the requester's patience does not keep anybody frozen, and a thaw
// that succeeded is not asked for twice.
func TestGroupThawComesThrough(t *testing.T) {
	var d diary
	fakes := cast(&d, "a:front-end", "b:back-end")
	fakes["b"].fail[PhaseThaw] = errNo
	g := groupOf(fakes, 0)
	ctx, cancel := context.WithCancel(context.Background())
	if err := errors.Join(g.Prepare(ctx), g.Freeze(ctx)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := g.Thaw(ctx, OutcomeTimeout); !errors.Is(err, errNo) {
		t.Errorf("Thaw() = %v", err)
	}
	if err := g.Thaw(ctx, OutcomeTimeout); !errors.Is(err, errNo) {
		t.Errorf("Thaw() again = %v", err)
	}
	want := []string{"thaw b timeout", "thaw a timeout", "thaw b timeout"}
	if got := d.lines[4:]; !slices.Equal(got, want) {
		t.Errorf("calls %q, want %q", got, want)
	}
	if err := g.Close(); err != nil || len(d.lines) != 9 {
		t.Errorf("Close() = %v, %q", err, d.lines)
	}
}

// A writer that breaks its promise about time does not keep the group.
func TestGroupGoesOnWithoutADeafWriter(t *testing.T) {
	var d diary
	fakes := cast(&d, "a:front-end", "b:back-end")
	g := groupOf(fakes, 0)
	ctx := context.Background()
	if err := errors.Join(g.Prepare(ctx), g.Freeze(ctx)); err != nil {
		t.Fatal(err)
	}
	fakes["b"].deaf = true
	for _, m := range g.members {
		m.spec.Timeouts.Thaw = time.Millisecond
	}
	if err := g.Thaw(ctx, OutcomeOK); !errors.Is(err, ErrHoldLost) || !strings.Contains(err.Error(), "internal error") {
		t.Errorf("Thaw() = %v", err)
	}
	if d.lines[len(d.lines)-1] != "thaw a ok" {
		t.Errorf("calls %q", d.lines)
	}
}
