package hooks_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe/testwriter"
)

// asTestWriter in the environment makes the test's own program the test writer,
// that misbehaves as the variable's fields say: "fail=freeze,thaw hang=post".
const asTestWriter = "HOOKS_TEST_MISBEHAVE"

func TestMain(m *testing.M) {
	if how, ok := os.LookupEnv(asTestWriter); ok {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := testwriter.Serve(ctx, os.Stdin, os.Stdout, misbehaviour(how)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if path, ok := os.LookupEnv(asDaemon); ok {
		holdForEver(path)
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "hooks")
		if err == nil {
			defer os.RemoveAll(dir)
			self, err = copySelf(dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// self is the test's own program, copied to where only its user could change it:
// as root, nothing else would be run.
var self string

func copySelf(dir string) (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "self")
	return path, os.WriteFile(path, program, 0o755)
}

// asDaemon in the environment makes the test's own program a daemon that holds
// the session of the script that it names.
const asDaemon = "HOOKS_TEST_DAEMON"

func holdForEver(script string) {
	w, err := hooks.New(hooks.Spec{Name: "script", Session: []string{"sh", script}})
	if err == nil {
		_, err = w.Prepare(context.Background(), hooks.Event{Set: filepath.Base(filepath.Dir(script)) + "-daemon"})
	}
	if err == nil {
		_, err = w.Freeze(context.Background(), hooks.Event{})
	}
	fmt.Println("held:", err)
	select {}
}

func misbehaviour(how string) testwriter.Options {
	var o testwriter.Options
	for _, field := range strings.Fields(how) {
		key, value, _ := strings.Cut(field, "=")
		phases := strings.Split(value, ",")
		switch key {
		case "fail":
			o.FailAt = phases
		case "hang":
			o.HangAt = phases
		case "exit":
			o.ExitAt = phases
		case "lie":
			o.LieAt = phases
		case "garbage":
			o.GarbageAt = phases
		case "twice":
			o.TwiceAt = phases
		case "mute":
			o.MuteAt = phases
		case "inactive":
			o.Inactive = true
		}
	}
	return o
}

// quick are time limits for tests, except where a time-out is the point.
var quick = hooks.Timeouts{Prepare: 20 * time.Second, Freeze: 20 * time.Second, Thaw: 20 * time.Second, Abort: 20 * time.Second, Post: 20 * time.Second}

// testWriterSpec declares the misbehaving writer.
func testWriterSpec(t *testing.T, how string) hooks.Spec {
	t.Helper()
	return hooks.Spec{Name: "test", Session: []string{self}, Timeouts: quick, Env: map[string]string{asTestWriter: how}}
}

// script writes a shell script and declares it as a session.
func script(t *testing.T, text string) hooks.Spec {
	t.Helper()
	return hooks.Spec{Name: "script", Session: []string{"sh", writeScript(t, text)}, Timeouts: quick}
}

func writeScript(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func newWriter(t *testing.T, spec hooks.Spec) hooks.Writer {
	t.Helper()
	w, err := hooks.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// course is what became of one set.
type course struct {
	prepare, freeze, hold, thaw, post, abort error
	prepared, thawed                         hooks.Answer
}

// drive takes a writer through a set: in the middle it waits until the hold is
// lost, at most for hold. After a failure of prepare or freeze it aborts.
func drive(w hooks.Writer, ev hooks.Event, hold time.Duration) course {
	ctx := context.Background()
	var c course
	if c.prepared, c.prepare = w.Prepare(ctx, ev); c.prepare != nil {
		c.abort = w.Abort(ctx, ev)
		return c
	}
	if _, c.freeze = w.Freeze(ctx, ev); c.freeze == nil {
		for end := time.Now().Add(hold); c.hold == nil && time.Now().Before(end); time.Sleep(time.Millisecond) {
			c.hold = w.Holding()
		}
	}
	c.thawed, c.thaw = w.Thaw(ctx, ev)
	if c.freeze != nil || c.thaw != nil {
		c.abort = w.Abort(ctx, ev)
	} else {
		_, c.post = w.Post(ctx, ev)
	}
	return c
}

// unique returns an event whose set no other process knows.
func unique(t *testing.T) hooks.Event {
	return hooks.Event{Set: fmt.Sprintf("%s-%d", strings.ReplaceAll(t.Name(), "/", "."), os.Getpid()), Policy: "p"}
}

// leftovers lists the processes that still have the set in their environment.
func leftovers(t *testing.T, ev hooks.Event) []string {
	t.Helper()
	var found []string
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range environs {
		environ, err := os.ReadFile(path)
		if err == nil && bytes.Contains(environ, []byte("FERMATA_SET="+ev.Set+"\x00")) {
			found = append(found, path)
		}
	}
	return found
}

func noLeftovers(t *testing.T, ev hooks.Event) {
	t.Helper()
	var left []string
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if left = leftovers(t, ev); len(left) == 0 {
			return
		}
	}
	t.Errorf("processes are left: %v", left)
}

// answerAll is the loop of a script that does its part.
const answerAll = `while read -r phase rest; do echo ok; done`

func TestSessionKeepsItsWord(t *testing.T) {
	ev := unique(t)
	w := newWriter(t, testWriterSpec(t, ""))
	if err := w.Holding(); !errors.Is(err, hooks.ErrNotHolding) {
		t.Errorf("before prepare: Holding() = %v", err)
	}
	c := drive(w, ev, 50*time.Millisecond)
	for phase, err := range map[string]error{"prepare": c.prepare, "freeze": c.freeze, "hold": c.hold, "thaw": c.thaw, "post": c.post} {
		if err != nil {
			t.Errorf("%s: %v", phase, err)
		}
	}
	if c.prepared.Data["set"] != ev.Set {
		t.Errorf("prepare said %v", c.prepared)
	}
	if err := w.Holding(); !errors.Is(err, hooks.ErrNotHolding) {
		t.Errorf("after thaw: Holding() = %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	noLeftovers(t, ev)
}

// Every way in which a session can go wrong, what is said of it, and that in the
// end nothing of it is left.
func TestSessionFailures(t *testing.T) {
	type want struct {
		prepare, freeze, hold, thaw, abort, post string // part of the error; empty: none
		held                                     bool   // the error of thaw is ErrHoldLost
	}
	short := func(s hooks.Spec, phase hooks.Phase) hooks.Spec {
		limit := map[hooks.Phase]*time.Duration{
			hooks.PhasePrepare: &s.Timeouts.Prepare, hooks.PhaseFreeze: &s.Timeouts.Freeze,
			hooks.PhaseThaw: &s.Timeouts.Thaw, hooks.PhasePost: &s.Timeouts.Post, hooks.PhaseAbort: &s.Timeouts.Abort,
		}
		*limit[phase] = 300 * time.Millisecond
		return s
	}
	for _, test := range []struct {
		name string
		spec func(t *testing.T) hooks.Spec
		want want
	}{
		{"fails at prepare", func(t *testing.T) hooks.Spec { return testWriterSpec(t, "fail=prepare") },
			want{prepare: "cannot prepare writer test: told to fail at prepare"}},
		{"fails at freeze", func(t *testing.T) hooks.Spec { return testWriterSpec(t, "fail=freeze") },
			want{freeze: "cannot freeze writer test: told to fail at freeze"}},
		{"fails at thaw", func(t *testing.T) hooks.Spec { return testWriterSpec(t, "fail=thaw") },
			want{thaw: "hold lost: told to fail at thaw", held: true}},
		{"fails at post", func(t *testing.T) hooks.Spec { return testWriterSpec(t, "fail=post") },
			want{post: "cannot tell writer test the outcome: told to fail at post"}},
		{"fails at abort", func(t *testing.T) hooks.Spec { return testWriterSpec(t, "fail=freeze,abort") },
			want{freeze: "told to fail", abort: "told to fail at abort"}},
		{"hangs at prepare", func(t *testing.T) hooks.Spec { return short(testWriterSpec(t, "hang=prepare"), hooks.PhasePrepare) },
			want{prepare: "no answer to prepare within 300ms"}},
		{"hangs at freeze", func(t *testing.T) hooks.Spec { return short(testWriterSpec(t, "hang=freeze"), hooks.PhaseFreeze) },
			want{freeze: "no answer to freeze within 300ms"}},
		{"hangs at thaw", func(t *testing.T) hooks.Spec { return short(testWriterSpec(t, "hang=thaw"), hooks.PhaseThaw) },
			want{thaw: "hold lost: no answer to thaw within 300ms", held: true}},
		{"hangs at post", func(t *testing.T) hooks.Spec { return short(testWriterSpec(t, "hang=post"), hooks.PhasePost) },
			want{post: "no answer to post within 300ms"}},
		{"exits at prepare", func(t *testing.T) hooks.Spec { return testWriterSpec(t, "exit=prepare") },
			want{prepare: "it exited (exit status 1; it said: told to exit at prepare"}},
		{"exits at freeze", func(t *testing.T) hooks.Spec { return testWriterSpec(t, "exit=freeze") },
			want{freeze: "it exited (exit status 1"}},
		{"exits in the hold", func(t *testing.T) hooks.Spec { return testWriterSpec(t, "exit=hold") },
			want{hold: "hold lost: it", thaw: "hold lost: it exited (exit status 1", held: true}},
		{"exits at thaw", func(t *testing.T) hooks.Spec { return testWriterSpec(t, "exit=thaw") },
			want{thaw: "hold lost: it exited (exit status 1", held: true}},
		{"garbage at prepare", func(t *testing.T) hooks.Spec { return testWriterSpec(t, "garbage=prepare") },
			want{prepare: `not an answer to prepare: "maybe"`}},
		{"garbage at freeze", func(t *testing.T) hooks.Spec { return testWriterSpec(t, "garbage=freeze") },
			want{freeze: `not an answer to freeze: "maybe"`}},
		{"garbage in the hold", func(t *testing.T) hooks.Spec { return testWriterSpec(t, "garbage=hold") },
			want{hold: "hold lost", thaw: `hold lost: it said "maybe" without being asked`, held: true}},
		{"lies at freeze", func(t *testing.T) hooks.Spec { return testWriterSpec(t, "lie=freeze") },
			want{thaw: "hold lost: told to lie", held: true}},
		{"mute in the hold", func(t *testing.T) hooks.Spec { return testWriterSpec(t, "mute=hold") },
			want{hold: "hold lost", thaw: "hold lost: it closed its output", held: true}},
		{"a line too long", func(t *testing.T) hooks.Spec {
			return script(t, `read -r x; head -c 70000 /dev/zero | tr '\0' a; echo; `+answerAll)
		}, want{prepare: "a line longer than 64 KiB: \"aaa"}},
		{"ends in the middle of a line", func(t *testing.T) hooks.Spec { return script(t, `read -r x; printf 'o'`) },
			want{prepare: `its output ended in the middle of a line: "o" (exit status 0)`}},
		{"speaks first", func(t *testing.T) hooks.Spec { return script(t, `echo hello; `+answerAll) },
			want{prepare: "hello"}},
		{"does not start", func(t *testing.T) hooks.Spec { return script(t, `echo no such database >&2; exit 7`) },
			want{prepare: "it exited (exit status 7; it said: no such database)"}},
		{"lost to prepare is garbage", func(t *testing.T) hooks.Spec { return script(t, `read -r x; echo lost it`) },
			want{prepare: "not an answer to prepare"}},
		{"JSON that is none", func(t *testing.T) hooks.Spec { return script(t, `read -r x; echo 'ok {"a":'; read -r x`) },
			want{prepare: "bad JSON"}},
		{"leaves a child that keeps the pipes", func(t *testing.T) hooks.Spec {
			return script(t, `read -r x; echo ok; read -r x; echo ok; sleep 300 & sleep 0.1; exit 4`)
		}, want{hold: "hold lost", thaw: "hold lost: it exited (exit status 4)", held: true}},
		{"leaves a child of another session that keeps the pipes", func(t *testing.T) hooks.Spec {
			return script(t, `read -r x; setsid sleep 2 & exit 5`)
		}, want{prepare: "it exited (exit status 5)"}},
		{"floods its output", func(t *testing.T) hooks.Spec { return script(t, `read -r x; yes ok`) },
			want{freeze: `it said "ok" without being asked`}},
		{"floods its output without a line", func(t *testing.T) hooks.Spec { return script(t, `exec cat /dev/zero`) },
			want{prepare: "a line longer than 64 KiB"}},
		{"closes its descriptors", func(t *testing.T) hooks.Spec {
			return script(t, `read -r x; echo ok; exec >&- 2>&-; trap '' TERM; sleep 300; sleep 300`)
		}, want{freeze: "it closed its output"}},
		{"closes its input", func(t *testing.T) hooks.Spec {
			return script(t, `read -r x; exec <&-; echo ok; trap '' TERM; sleep 300; sleep 300`)
		}, want{freeze: "it does not read its input"}},
		{"answers late", func(t *testing.T) hooks.Spec {
			return short(script(t, `read -r x; echo ok; read -r x; trap '' TERM; sleep 1; echo ok; sleep 300`), hooks.PhaseFreeze)
		}, want{freeze: "no answer to freeze within 300ms"}},
		{"noisy", func(t *testing.T) hooks.Spec {
			return script(t, `while read -r phase rest; do head -c 1000000 /dev/zero | tr '\0' '\n' >&2; echo ok; done`)
		}, want{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ev := unique(t)
			w := newWriter(t, test.spec(t))
			hold := 30 * time.Millisecond
			if test.want.hold != "" {
				hold = 10 * time.Second
			}
			begin := time.Now()
			c := drive(w, ev, hold)
			closed := w.Close()
			check := func(phase, want string, got error) {
				t.Helper()
				if want == "" && got != nil || want != "" && (got == nil || !strings.Contains(got.Error(), want)) {
					t.Errorf("%s: got %v, want %q", phase, got, want)
				}
			}
			why := strings.TrimPrefix(test.want.thaw, "hold lost: ")
			if test.want.hold != "" && c.freeze != nil && strings.Contains(c.freeze.Error(), why) {
				test.want = want{freeze: why} // it was faster than the look that freeze takes after its answer
			}
			check("prepare", test.want.prepare, c.prepare)
			check("freeze", test.want.freeze, c.freeze)
			check("hold", test.want.hold, c.hold)
			check("thaw", test.want.thaw, c.thaw)
			check("abort", test.want.abort, c.abort)
			check("post", test.want.post, c.post)
			check("close", "", closed)
			if errors.Is(c.thaw, hooks.ErrHoldLost) != test.want.held {
				t.Errorf("thaw is ErrHoldLost: %t, want %t", !test.want.held, test.want.held)
			}
			if took := time.Since(begin); took > 15*time.Second {
				t.Errorf("took %s", took)
			}
			noLeftovers(t, ev)
		})
	}
}

// A second answer is seen at once or at the next phase, whichever comes first;
// it is never taken for peace.
func TestSessionAnswersTwice(t *testing.T) {
	for _, at := range []string{"prepare", "freeze", "thaw"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			w := newWriter(t, testWriterSpec(t, "twice="+at))
			c := drive(w, unique(t), 50*time.Millisecond)
			if c.prepare == nil && c.freeze == nil && c.thaw == nil && c.post == nil {
				t.Error("nobody minded the second answer")
			}
		})
	}
}

func TestSessionTimeoutIsDeadlineExceeded(t *testing.T) {
	spec := testWriterSpec(t, "hang=freeze")
	spec.Timeouts.Freeze = 50 * time.Millisecond
	w := newWriter(t, spec)
	ctx := context.Background()
	if _, err := w.Prepare(ctx, unique(t)); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	_, err := w.Freeze(ctx, unique(t))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Freeze() = %v, want a DeadlineExceeded", err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("a limit of 50ms took %s", took)
	}
}

func TestSessionObeysContext(t *testing.T) {
	w := newWriter(t, testWriterSpec(t, "hang=prepare"))
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := w.Prepare(ctx, unique(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Prepare() = %v", err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestSessionInactive(t *testing.T) {
	w := newWriter(t, testWriterSpec(t, "inactive"))
	a, err := w.Prepare(context.Background(), unique(t))
	if err != nil || !a.Inactive || a.Text != "told to be" {
		t.Errorf("Prepare() = %+v, %v", a, err)
	}
}

// It is asked again by a child of its own, and what that does to get ready is let go.
func TestStillInactive(t *testing.T) {
	for _, session := range []bool{true, false} {
		dir := t.TempDir()
		up, log := filepath.Join(dir, "up"), filepath.Join(dir, "log")
		w := script(t, "while read -r phase x; do if test $phase = abort -o -e "+up+"; then echo ok; else echo inactive it is down; fi; done; echo let go >>"+log)
		if !session {
			w = hooks.Spec{Name: "w", Timeouts: quick, Commands: map[hooks.Phase][]string{hooks.PhaseFreeze: {"true"}, hooks.PhaseThaw: {"true"},
				hooks.PhasePrepare: {"sh", "-c", "test -e " + up + " || exit 3"}, hooks.PhaseAbort: {"sh", "-c", "echo let go >>" + log}}}
		}
		w.Required = true
		g := hooks.NewGroup([]hooks.Writer{newWriter(t, w)}, unique(t), 0)
		ctx := t.Context()
		if err := errors.Join(g.Prepare(ctx), g.Freeze(ctx), g.Thaw(ctx, hooks.OutcomeOK), g.StillInactive(ctx)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(up, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := g.StillInactive(ctx); !errors.Is(err, hooks.ErrHoldLost) || !strings.Contains(err.Error(), "was started meanwhile") {
			t.Errorf("session %v: StillInactive() = %v", session, err)
		}
		if err := errors.Join(g.Abort(ctx, hooks.OutcomeFailed), g.Close()); err != nil {
			t.Error(err)
		}
		if b, err := os.ReadFile(log); err != nil || !strings.Contains(string(b), "let go") {
			t.Errorf("session %v: %q, %v", session, b, err)
		}
	}
}

// Whatever happened before, thaw and abort come through.
func TestSessionThawAndAbortUnprepared(t *testing.T) {
	w := newWriter(t, testWriterSpec(t, ""))
	if _, err := w.Thaw(context.Background(), unique(t)); err != nil {
		t.Error(err)
	}
	if err := w.Abort(context.Background(), unique(t)); err != nil {
		t.Error(err)
	}
	if _, err := w.Prepare(context.Background(), unique(t)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Prepare() after Abort() = %v", err)
	}
}

// Close from elsewhere ends a hold and a call that waits.
func TestSessionCloseWhileWaiting(t *testing.T) {
	ev := unique(t)
	w := newWriter(t, script(t, `read -r x; echo ok; read -r x; cat >/dev/null`))
	if _, err := w.Prepare(context.Background(), ev); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { _ = w.Close() })
	begin := time.Now()
	if _, err := w.Freeze(context.Background(), ev); err == nil {
		t.Error("Freeze() = nil")
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
	noLeftovers(t, ev)
}

// The end of input is enough for a session to let go: it is not killed for it.
func TestSessionLetsGoAtEndOfInput(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "let-go")
	w := newWriter(t, script(t, answerAll+`; : > `+mark))
	if _, err := w.Prepare(context.Background(), unique(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Freeze(context.Background(), unique(t)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("it did not come to its end: %v", err)
	}
}

// Kill the daemon, and the session learns it: from its input, and by a signal.
func TestSessionOfAKilledDaemon(t *testing.T) {
	for name, text := range map[string]string{
		"end of input": `trap '' TERM; ` + answerAll + `; echo gone > "$0.gone"`,
		"signal":       `trap 'echo gone > "$0.gone"; kill $!; exit' TERM; read -r x; echo ok; read -r x; echo ok; sleep 300 & wait`,
	} {
		t.Run(name, func(t *testing.T) {
			path := writeScript(t, text)
			daemon := exec.Command(self)
			daemon.Env = append(os.Environ(), asDaemon+"="+path)
			out, err := daemon.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := daemon.Start(); err != nil {
				t.Fatal(err)
			}
			said, err := bufio.NewReader(out).ReadString('\n')
			if said != "held: <nil>\n" {
				t.Errorf("the daemon said %q, %v", said, err)
			}
			if err := daemon.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = daemon.Wait() // killed, as asked
			for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
				if _, err = os.Stat(path + ".gone"); err == nil {
					return
				}
			}
			t.Errorf("a second later it still holds: %v", err)
		})
	}
}

func TestHoldingCostsNothing(t *testing.T) {
	w := newWriter(t, testWriterSpec(t, ""))
	if _, err := w.Prepare(context.Background(), unique(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Freeze(context.Background(), unique(t)); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _ = w.Holding() }); n != 0 {
		t.Errorf("Holding() allocates %v times", n)
	}
}

// What a program is given: a clean environment, the folder /, its own group.
func TestSessionSurroundings(t *testing.T) {
	t.Setenv("SECRET", "leaked")
	spec := script(t, `read -r x; group=$(cut -d' ' -f5 /proc/$$/stat)
		echo "ok {\"set\":\"$FERMATA_SET\",\"policy\":\"$FERMATA_POLICY\",\"path\":\"$PATH\",\"secret\":\"$SECRET\",\"own\":\"$OWN\",\"pwd\":\"$(pwd)\",\"leader\":\"$((group == $$))\"}"; read -r x`)
	spec.Env = map[string]string{"OWN": "mine"}
	w := newWriter(t, spec)
	ev := unique(t)
	a, err := w.Prepare(context.Background(), ev)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"set": ev.Set, "policy": "p", "secret": "", "own": "mine", "pwd": "/", "leader": "1"} {
		if a.Data[key] != want {
			t.Errorf("%s = %q, want %q", key, a.Data[key], want)
		}
	}
	if path, _ := a.Data["path"].(string); !strings.HasPrefix(path, "/usr/local/libexec/fermata:") {
		t.Errorf("path = %q", path)
	}
}
