package hooks_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fermata-project/fermata/hooks"
)

// service is a Remote that does at each phase what a test says.
type service struct {
	at    map[hooks.Phase]func(ctx context.Context) (hooks.Answer, error)
	asked []string
	gone  atomic.Pointer[error]
}

func (s *service) Ask(ctx context.Context, r hooks.Request) (hooks.Answer, error) {
	s.asked = append(s.asked, string(r.Phase))
	if do := s.at[r.Phase]; do != nil {
		return do(ctx)
	}
	return hooks.Answer{}, nil
}

func (s *service) Gone() error {
	if err := s.gone.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *service) leave() {
	err := errors.New("it left the bus")
	s.gone.Store(&err)
}

func newRemote(t *testing.T, spec hooks.Spec, find func(context.Context) (hooks.Remote, error)) hooks.Writer {
	t.Helper()
	spec.Name, spec.Type = "shop", hooks.TypeDBus
	w, err := hooks.NewRemote(spec, find)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// A report is asked for by itself, later, of whoever is there then.
func TestRemoteReport(t *testing.T) {
	s := &service{at: map[hooks.Phase]func(ctx context.Context) (hooks.Answer, error){
		hooks.PhaseReport: func(context.Context) (hooks.Answer, error) { return hooks.Answer{}, errors.New("not now") },
	}}
	w := newRemote(t, hooks.Spec{Report: true}, func(context.Context) (hooks.Remote, error) { return s, nil })
	if r := hooks.Ask(t.Context(), w, hooks.PhaseReport, hooks.Event{Set: "s"}); r.Err == nil || !strings.Contains(r.Err.Error(), "cannot tell writer shop how the backup went: not now") {
		t.Errorf("got %v", r.Err)
	}
	if err := w.Close(); err != nil || !slices.Equal(s.asked, []string{"report"}) {
		t.Errorf("asked %q, %v", s.asked, err)
	}
	none := newRemote(t, hooks.Spec{Report: true}, func(context.Context) (hooks.Remote, error) { return nil, errors.New("nobody there") })
	if r := hooks.Ask(t.Context(), none, hooks.PhaseReport, hooks.Event{}); r.Err == nil || !strings.Contains(r.Err.Error(), "nobody there") {
		t.Errorf("got %v", r.Err)
	}
}

func TestRemote(t *testing.T) {
	type at = map[hooks.Phase]func(ctx context.Context) (hooks.Answer, error)
	hang := func(ctx context.Context) (hooks.Answer, error) { <-ctx.Done(); return hooks.Answer{}, ctx.Err() }
	refuse := func(context.Context) (hooks.Answer, error) { return hooks.Answer{}, errors.New("not now") }
	lost := func(context.Context) (hooks.Answer, error) {
		return hooks.Answer{}, fmt.Errorf("%w: somebody came", hooks.ErrHoldLost)
	}
	for _, test := range []struct {
		name  string
		at    at
		leave hooks.Phase // after its answer
		asked string      // Close included
		fails map[string]string
		lost  bool // thaw says so
	}{
		{name: "all is well", asked: "prepare freeze thaw post"},
		{name: "refuses to prepare", at: at{hooks.PhasePrepare: refuse}, asked: "prepare abort", fails: map[string]string{"prepare": "cannot prepare writer shop: not now"}},
		{name: "refuses to freeze", at: at{hooks.PhaseFreeze: refuse}, asked: "prepare freeze thaw abort", fails: map[string]string{"freeze": "cannot freeze writer shop: not now"}},
		{name: "hangs at freeze", at: at{hooks.PhaseFreeze: hang}, asked: "prepare freeze thaw abort", fails: map[string]string{"freeze": "no answer to freeze within 30ms"}},
		{name: "hangs at thaw, and is asked again", at: at{hooks.PhaseThaw: hang}, asked: "prepare freeze thaw abort thaw", lost: true,
			fails: map[string]string{"thaw": "hold lost: no answer to thaw within 30ms", "close": "no answer to thaw"}},
		{name: "refuses to thaw", at: at{hooks.PhaseThaw: refuse}, asked: "prepare freeze thaw abort thaw", lost: true, fails: map[string]string{"thaw": "not now", "close": "not now"}},
		{name: "had let go", at: at{hooks.PhaseThaw: lost}, asked: "prepare freeze thaw abort", lost: true, fails: map[string]string{"thaw": "somebody came"}},
		{name: "leaves before freeze", leave: hooks.PhasePrepare, asked: "prepare freeze", fails: map[string]string{"freeze": "it left the bus"}},
		{name: "leaves in the hold", leave: hooks.PhaseFreeze, asked: "prepare freeze", lost: true,
			fails: map[string]string{"freeze": "it left the bus"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &service{at: test.at}
			if test.leave != "" {
				s.at = at{test.leave: func(context.Context) (hooks.Answer, error) { s.leave(); return hooks.Answer{}, nil }}
			}
			w := newRemote(t, hooks.Spec{Timeouts: hooks.Timeouts{Freeze: 30 * time.Millisecond, Thaw: 30 * time.Millisecond}},
				func(context.Context) (hooks.Remote, error) { return s, nil })
			c := drive(w, hooks.Event{Set: "s"}, 0)
			got := map[string]string{}
			for name, err := range map[string]error{"prepare": c.prepare, "freeze": c.freeze, "hold": c.hold, "thaw": c.thaw, "post": c.post, "abort": c.abort, "close": w.Close()} {
				if err != nil {
					got[name] = err.Error()
				}
			}
			for name, want := range test.fails {
				if !strings.Contains(got[name], want) {
					t.Errorf("%s: %q, want %q", name, got[name], want)
				}
				delete(got, name)
			}
			if len(got) > 0 {
				t.Errorf("errors that nobody expects: %q", got)
			}
			if asked := strings.Join(s.asked, " "); asked != test.asked {
				t.Errorf("it was asked %q, want %q", asked, test.asked)
			}
			if test.lost && c.freeze == nil && !errors.Is(c.thaw, hooks.ErrHoldLost) {
				t.Errorf("thaw: %v, want a lost hold", c.thaw)
			}
		})
	}
}

// A service that leaves while it holds is seen at once, and is not asked again, also if it comes back.
func TestRemoteLeavesWhileHolding(t *testing.T) {
	s := &service{}
	w := newRemote(t, hooks.Spec{}, func(context.Context) (hooks.Remote, error) { return s, nil })
	ctx, ev := t.Context(), hooks.Event{Set: "s"}
	if err := w.Holding(); !errors.Is(err, hooks.ErrNotHolding) {
		t.Errorf("before the hold: %v", err)
	}
	for _, call := range []func(context.Context, hooks.Event) (hooks.Answer, error){w.Prepare, w.Freeze} {
		if _, err := call(ctx, ev); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Holding(); err != nil {
		t.Errorf("while it holds: %v", err)
	}
	if n := testing.AllocsPerRun(10, func() { _ = w.Holding() }); n > 0 {
		t.Errorf("Holding allocates %v times", n)
	}
	s.leave()
	if err := w.Holding(); !errors.Is(err, hooks.ErrHoldLost) {
		t.Errorf("after it left: %v", err)
	}
	if _, err := w.Thaw(ctx, ev); !errors.Is(err, hooks.ErrHoldLost) {
		t.Errorf("Thaw() = %v", err)
	}
	if err := errors.Join(w.Abort(ctx, ev), w.Close()); err != nil {
		t.Error(err)
	}
	if !slices.Equal(s.asked, []string{"prepare", "freeze"}) {
		t.Errorf("it was asked %q", s.asked)
	}
}

func TestRemoteIsFoundLate(t *testing.T) {
	absent := errors.New("it is not registered")
	w := newRemote(t, hooks.Spec{}, func(context.Context) (hooks.Remote, error) { return nil, absent })
	c := drive(w, hooks.Event{}, 0)
	if !errors.Is(c.prepare, absent) || c.abort != nil {
		t.Errorf("got %+v", c)
	}
	if _, err := w.Thaw(t.Context(), hooks.Event{}); err != nil {
		t.Errorf("Thaw() of a service that was never found: %v", err)
	}
	data := map[string]any{"lsn": "0/15"}
	s := &service{at: map[hooks.Phase]func(context.Context) (hooks.Answer, error){
		hooks.PhasePrepare: func(context.Context) (hooks.Answer, error) { return hooks.Answer{Data: data}, nil },
	}}
	w = newRemote(t, hooks.Spec{}, func(context.Context) (hooks.Remote, error) { return s, nil })
	if c := drive(w, hooks.Event{}, 0); !reflect.DeepEqual(c.prepared.Data, data) {
		t.Errorf("got %+v", c)
	}
}
