package hooks_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/hooks"
)

// commandSpec declares the same shell script for all phases.
func commandSpec(t *testing.T, text string) hooks.Spec {
	t.Helper()
	path := writeScript(t, text)
	commands := map[hooks.Phase][]string{}
	for _, p := range hooks.Phases {
		commands[p] = []string{"sh", path}
	}
	return hooks.Spec{Name: "script", Commands: commands, Timeouts: quick}
}

func TestCommandsAreTold(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	w := newWriter(t, commandSpec(t, `echo "$FERMATA_PHASE $FERMATA_SET $FERMATA_POLICY $FERMATA_OUTCOME $FERMATA_DRY_RUN" >> `+log))
	ctx := context.Background()
	ev := hooks.Event{Set: "s1", Policy: "nightly", DryRun: true}
	for _, call := range []func() error{
		func() error { _, err := w.Prepare(ctx, ev); return err },
		func() error { _, err := w.Freeze(ctx, ev); return err },
		w.Holding,
		func() error { ev.Outcome = hooks.OutcomeOK; _, err := w.Thaw(ctx, ev); return err },
		func() error { _, err := w.Post(ctx, ev); return err },
		func() error { ev.Outcome = hooks.OutcomeTimeout; return w.Abort(ctx, ev) },
	} {
		if err := call(); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	want := "prepare s1 nightly  true\nfreeze s1 nightly  true\nthaw s1 nightly ok true\n" +
		"post s1 nightly ok true\nabort s1 nightly timeout true\n"
	if string(got) != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestCommandAnswers(t *testing.T) {
	for _, test := range []struct {
		name, text string
		text1      string // Answer.Text
		data       string // Answer.Data["n"]
		inactive   bool
		err        string
	}{
		{name: "silent", text: `:`},
		{name: "text", text: `echo hello; echo more`, text1: "hello"},
		{name: "object", text: `echo '{"n":12345678901234567890}'; echo more`, data: "12345678901234567890"},
		{name: "bad object is text", text: `echo '{"n":'`, text1: `{"n":`},
		{name: "inactive", text: `echo is down; exit 3`, text1: "is down", inactive: true},
		{name: "fails", text: `echo no >&2; exit 1`, err: "the command failed (exit status 1; it said: no)"},
		{name: "dies", text: `kill -9 $$`, err: "the command failed (signal: killed)"},
		{name: "much output", text: `head -c 1000000 /dev/zero | tr '\0' x; head -c 1000000 /dev/zero >&2`, text1: strings.Repeat("x", 1024)},
		{name: "leaves a child with the pipes", text: `echo hello; setsid sleep 20 &`, text1: "hello"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWriter(t, commandSpec(t, test.text))
			begin := time.Now()
			a, err := w.Prepare(context.Background(), unique(t))
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			if err != nil {
				return
			}
			var n string
			if a.Data != nil {
				n = a.Data["n"].(interface{ String() string }).String()
			}
			if a.Text != test.text1 || n != test.data || a.Inactive != test.inactive {
				t.Errorf("answer %.100v", a)
			}
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

// What a command that may not go on leaves is killed, also what ignores SIGTERM.
func TestCommandTimeout(t *testing.T) {
	for name, text := range map[string]string{
		"itself":             `exec sleep 300`,
		"with children":      `sleep 300 & sleep 300 & wait`,
		"ignoring SIGTERM":   `trap '' TERM; sleep 300; sleep 300`,
		"child ignores TERM": `(trap '' TERM; sleep 300) & wait`,
		"without end":        `yes`,
		"without line":       `cat /dev/zero`,
		"closed":             `exec <&- >&- 2>&-; sleep 300`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ev := unique(t)
			spec := commandSpec(t, text)
			spec.Timeouts.Freeze = 200 * time.Millisecond
			w := newWriter(t, spec)
			begin := time.Now()
			_, err := w.Freeze(context.Background(), ev)
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "sh did not end within 200ms") {
				t.Errorf("Freeze() = %v", err)
			}
			if took := time.Since(begin); took > 4*time.Second {
				t.Errorf("took %s", took)
			}
			if w.Holding() == nil {
				t.Error("it is said to hold")
			}
			noLeftovers(t, ev)
		})
	}
}

func TestCommandThawFails(t *testing.T) {
	w := newWriter(t, commandSpec(t, `test "$FERMATA_PHASE" != thaw`))
	c := drive(w, unique(t), 0)
	if !errors.Is(c.thaw, hooks.ErrHoldLost) {
		t.Errorf("Thaw() = %v, want ErrHoldLost", c.thaw)
	}
	if _, err := w.Thaw(context.Background(), unique(t)); err == nil || errors.Is(err, hooks.ErrHoldLost) {
		t.Errorf("Thaw() again = %v, want a failure, but no hold to lose", err)
	}
}

func TestCommandFreezeFailsAndThawIsRun(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "thawed")
	w := newWriter(t, commandSpec(t, `case $FERMATA_PHASE in freeze) exit 1;; thaw) : > `+mark+`;; esac`))
	c := drive(w, unique(t), 0)
	if c.freeze == nil || c.thaw != nil {
		t.Errorf("freeze %v, thaw %v", c.freeze, c.thaw)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Error(err)
	}
}

func TestCommandPhasesMayBeMissing(t *testing.T) {
	spec := commandSpec(t, `:`)
	for _, p := range []hooks.Phase{hooks.PhasePrepare, hooks.PhasePost, hooks.PhaseAbort} {
		delete(spec.Commands, p)
	}
	if c := drive(newWriter(t, spec), unique(t), 0); c.prepare != nil || c.freeze != nil || c.thaw != nil || c.post != nil {
		t.Errorf("%+v", c)
	}
}

func TestCommandCloseEndsWhatRuns(t *testing.T) {
	ev := unique(t)
	w := newWriter(t, commandSpec(t, `exec sleep 300`))
	time.AfterFunc(50*time.Millisecond, func() { _ = w.Close() })
	if _, err := w.Prepare(context.Background(), ev); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Prepare() = %v", err)
	}
	noLeftovers(t, ev)
}
