package hooks_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/hooks"
)

// asides is a writer in either form, by a script, that takes what is named.
func asides(t *testing.T, session bool, text string, phases ...hooks.Phase) hooks.Writer {
	t.Helper()
	path := writeScript(t, text)
	limits := quick
	limits.Recover, limits.Verify, limits.Report = time.Second, time.Second, time.Second
	spec := hooks.Spec{Name: "w", Timeouts: limits}
	if !session {
		spec.Commands = map[hooks.Phase][]string{hooks.PhaseFreeze: {"true"}, hooks.PhaseThaw: {"true"}}
		for _, p := range phases {
			spec.Commands[p] = []string{"sh", path}
		}
		return newWriter(t, spec)
	}
	spec.Session = []string{"sh", path}
	for _, p := range phases {
		spec.Recover, spec.Verify, spec.Report = spec.Recover || p == hooks.PhaseRecover, spec.Verify || p == hooks.PhaseVerify, spec.Report || p == hooks.PhaseReport
	}
	return newWriter(t, spec)
}

// Each phase beside a set is asked of a program of its own, which is told what the writer said to prepare.
func TestAsk(t *testing.T) {
	ev := hooks.Event{Set: "s1", Outcome: hooks.OutcomeOK, Volumes: []string{"/srv/a b"}, Prepared: map[string]any{"data": "/srv/a b"}}
	for name, test := range map[string]struct {
		session bool
		script  string
		want    string
	}{
		"session": {true, `read -r line; echo "$line $$" >> LOG; echo 'ok {"did":"it"}'; read -r line || echo end >> LOG`,
			`report set=s1 outcome=ok dry-run=false timeout-ms=1000 volumes=/srv/a%20b prepared=%7B%22data%22:%22/srv/a%20b%22%7D`},
		"commands": {false, `echo "$FERMATA_PHASE $FERMATA_SET $FERMATA_OUTCOME $FERMATA_PREPARED $$" >> LOG; echo '{"did":"it"}'`, `report s1 ok {"data":"/srv/a b"}`},
	} {
		t.Run(name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "log")
			w := asides(t, test.session, strings.ReplaceAll(test.script, "LOG", log), hooks.PhaseReport)
			for range 2 {
				r := hooks.Ask(t.Context(), w, hooks.PhaseReport, ev)
				if r.Err != nil || !reflect.DeepEqual(r.Answer.Data, map[string]any{"did": "it"}) {
					t.Fatalf("got %+v", r)
				}
			}
			text, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			if test.session && (len(lines) != 4 || lines[1] != "end") || !test.session && len(lines) != 2 || lines[0] == lines[len(lines)/2] {
				t.Errorf("it was told %q", lines)
			}
			if !strings.HasPrefix(lines[0], test.want+" ") {
				t.Errorf("it was told %q, want %q", lines[0], test.want)
			}
		})
	}
}

func TestAskFails(t *testing.T) {
	for _, session := range []bool{true, false} {
		w := asides(t, session, "if test \"$1\"; then exit 1; fi; read -r line && echo 'error no'; echo no >&2; exit 1", hooks.PhaseVerify)
		if r := hooks.Ask(t.Context(), w, hooks.PhaseVerify, hooks.Event{}); r.Err == nil || !strings.Contains(r.Err.Error(), "cannot verify the image of writer w: ") || !strings.Contains(r.Err.Error(), "no") {
			t.Errorf("session %v: %v", session, r.Err)
		}
		w = asides(t, session, "sleep 60", hooks.PhaseVerify)
		begin := time.Now()
		if r := hooks.Ask(t.Context(), w, hooks.PhaseVerify, hooks.Event{}); !errors.Is(r.Err, context.DeadlineExceeded) || time.Since(begin) > 30*time.Second {
			t.Errorf("session %v, hanging: %v after %v", session, r.Err, time.Since(begin))
		}
	}
}

func TestTakes(t *testing.T) {
	for _, session := range []bool{true, false} {
		spec := asides(t, session, "", hooks.PhaseRecover, hooks.PhaseReport).Spec()
		if !spec.Takes(hooks.PhaseRecover) || spec.Takes(hooks.PhaseVerify) || !spec.Takes(hooks.PhaseReport) {
			t.Errorf("session %v: %+v", session, spec)
		}
	}
}

// A writer whose daemon died is told so by the next one: by a session of its own, or by its commands.
func TestAbandoned(t *testing.T) {
	ev := hooks.Event{Set: "s1", Policy: "p", Outcome: hooks.OutcomeFailed}
	log := filepath.Join(t.TempDir(), "log")
	session := script(t, strings.ReplaceAll(`while read -r line; do echo "$line" >> LOG; echo ok; done; echo end >> LOG`, "LOG", log))
	commands := commandSpec(t, strings.ReplaceAll(`echo "$FERMATA_PHASE $FERMATA_SET $FERMATA_OUTCOME" >> LOG`, "LOG", log))
	for _, x := range []struct {
		spec hooks.Spec
		held bool
		want string
	}{
		{session, false, "abort set=s1 policy=p outcome=failed dry-run=false timeout-ms=LIMIT\nend\n"},
		{session, true, "abort set=s1 policy=p outcome=failed dry-run=false timeout-ms=LIMIT\nend\n"},
		{commands, false, "abort s1 failed\n"},
		{commands, true, "thaw s1 failed\nabort s1 failed\n"},
	} {
		w := newWriter(t, x.spec)
		if err := w.(hooks.Abandoner).Abandoned(t.Context(), ev, x.held); err != nil {
			t.Error(err)
		}
		want := strings.ReplaceAll(x.want, "LIMIT", fmt.Sprint(w.Spec().Timeouts.Abort.Milliseconds()))
		if text, err := os.ReadFile(log); err != nil || string(text) != want {
			t.Errorf("held %v: got %q, want %q, %v", x.held, text, want, err)
		}
		if err := os.Remove(log); err != nil {
			t.Error(err)
		}
	}
}
