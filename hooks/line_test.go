package hooks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestRequestLine(t *testing.T) {
	for _, test := range []struct {
		request Request
		line    string
	}{
		{Request{Phase: PhaseFreeze}, "freeze dry-run=false\n"},
		{
			Request{Phase: PhasePrepare, Timeout: 90 * time.Second, Event: Event{Set: "s1", Policy: "a b", DryRun: true, Volumes: []string{"/srv", "/a,b", "/ä\n"}}},
			"prepare set=s1 policy=a%20b dry-run=true timeout-ms=90000 volumes=/srv,/a%2Cb,/%C3%A4%0A\n",
		},
		{
			Request{Phase: PhaseThaw, Event: Event{Set: "s=1%", Outcome: OutcomeTimeout}},
			"thaw set=s%3D1%25 outcome=timeout dry-run=false\n",
		},
	} {
		line, err := test.request.Line()
		if err != nil || string(line) != test.line {
			t.Errorf("Line() = %q, %v, want %q", line, err, test.line)
		}
		back, err := ParseRequest(strings.TrimSuffix(test.line, "\n"))
		if err != nil || !reflect.DeepEqual(back, test.request) {
			t.Errorf("ParseRequest() = %+v, %v, want %+v", back, err, test.request)
		}
	}
	many := Request{Phase: PhasePrepare, Event: Event{Volumes: []string{strings.Repeat("/x", MaxLine/2)}}}
	if _, err := many.Line(); err == nil {
		t.Error("a line longer than MaxLine was made")
	}
	if r, err := ParseRequest("thaw set=1 colour=blue"); err != nil || r.Set != "1" {
		t.Errorf("an unknown key: %+v, %v", r, err)
	}
	for _, bad := range []string{"", "thaw ", "rest", "thaw set", "thaw set=%", "thaw set=%4", "thaw set=%zz", "thaw dry-run=perhaps",
		"thaw timeout-ms=-1", "thaw timeout-ms=99999999999", "prepare volumes=%"} {
		if _, err := ParseRequest(bad); err == nil {
			t.Errorf("ParseRequest(%q) was accepted", bad)
		}
	}
}

func TestParseAnswer(t *testing.T) {
	for _, test := range []struct {
		phase   Phase
		line    string
		answer  Answer
		err     string // the whole error; empty: none
		garbage bool
	}{
		{PhasePrepare, "ok", Answer{}, "", false},
		{PhasePrepare, `ok {"a":1}`, Answer{Data: map[string]any{"a": json.Number("1")}}, "", false},
		{PhasePrepare, "inactive", Answer{Inactive: true}, "", false},
		{PhasePrepare, "inactive is down", Answer{Inactive: true, Text: "is down"}, "", false},
		{PhaseFreeze, "error no such lock", Answer{}, "no such lock", false},
		{PhaseFreeze, "error", Answer{}, "no reason given", false},
		{PhaseThaw, "lost restarted", Answer{}, "hold lost: restarted", false},
		{PhaseFreeze, "lost restarted", Answer{}, `not an answer to freeze: "lost restarted"`, true},
		{PhaseFreeze, "inactive", Answer{}, `not an answer to freeze: "inactive"`, true},
		{PhaseFreeze, "", Answer{}, `not an answer to freeze: ""`, true},
		{PhaseFreeze, "OK", Answer{}, `not an answer to freeze: "OK"`, true},
		{PhaseFreeze, "okay", Answer{}, `not an answer to freeze: "okay"`, true},
		{PhaseFreeze, "ok\r", Answer{}, `not an answer to freeze: "ok\r"`, true},
		{PhaseFreeze, "ok [1]", Answer{}, `not an answer to freeze: "ok [1]": no JSON object`, true},
		{PhaseFreeze, "ok null", Answer{}, `not an answer to freeze: "ok null": no JSON object`, true},
		{PhaseFreeze, `ok {} {}`, Answer{}, `not an answer to freeze: "ok {} {}": text after the JSON object`, true},
		{PhaseFreeze, "ok \xff", Answer{}, `not an answer to freeze: "ok \xff" is not UTF-8`, true},
	} {
		a, err := parseAnswer(test.phase, test.line)
		said := ""
		if err != nil {
			said = err.Error()
		}
		if said != test.err || !reflect.DeepEqual(a, test.answer) || errors.Is(err, errGarbage) != test.garbage {
			t.Errorf("parseAnswer(%s, %q) = %+v, %q", test.phase, test.line, a, said)
		}
	}
}

func TestFormatAnswer(t *testing.T) {
	for _, test := range []struct {
		phase  Phase
		answer Answer
		err    error
		line   string
	}{
		{PhasePrepare, Answer{}, nil, "ok\n"},
		{PhasePrepare, Answer{Data: map[string]any{"a": 1}}, nil, "ok {\"a\":1}\n"},
		{PhasePrepare, Answer{Inactive: true, Text: "is\n down"}, nil, "inactive is down\n"},
		{PhaseThaw, Answer{}, fmt.Errorf("%w: gone", ErrHoldLost), "lost gone\n"},
		{PhaseFreeze, Answer{}, errors.New("a\nb"), "error a b\n"},
		{PhaseFreeze, Answer{}, fmt.Errorf("%w: gone", ErrHoldLost), "error hold lost: gone\n"},
		{PhaseFreeze, Answer{Data: map[string]any{"a": func() {}}}, nil, "error internal error: json: unsupported type: func()\n"},
	} {
		if line := FormatAnswer(test.phase, test.answer, test.err); string(line) != test.line {
			t.Errorf("FormatAnswer() = %q, want %q", line, test.line)
		}
	}
}

func TestFormatAnswerOmitsTheLargest(t *testing.T) {
	big := strings.Repeat("x", MaxLine)
	for name, data := range map[string]map[string]any{
		"one":  {"small": "s", "big": big},
		"some": {"small": "s", "big": big, "half1": big[:MaxLine*2/3], "half2": big[:MaxLine*2/3-1]},
	} {
		line := FormatAnswer(PhasePrepare, Answer{Data: data}, nil)
		if len(line) > MaxLine {
			t.Errorf("%s: %d bytes", name, len(line))
		}
		a, err := parseAnswer(PhasePrepare, string(bytes.TrimSuffix(line, []byte("\n"))))
		if err != nil || a.Data["small"] != "s" || a.Data["big"] != nil || a.Data["omitted"].([]any)[0] != "big" {
			t.Errorf("%s: %.200v, %v", name, a, err)
		}
	}
	if line := FormatAnswer(PhasePrepare, Answer{Data: map[string]any{big: 1}}, nil); len(line) > MaxLine {
		t.Errorf("a name too long: %d bytes", len(line))
	}
	if line := FormatAnswer(PhaseFreeze, Answer{}, errors.New(big)); len(line) > MaxLine {
		t.Errorf("an error too long: %d bytes", len(line))
	}
}

func FuzzParseAnswer(f *testing.F) {
	for _, seed := range []string{"ok", `ok {"a":{"b":[1,2]}}`, "inactive x", "lost x", "error x", "ok {", "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		for _, phase := range Phases {
			a, err := parseAnswer(phase, line)
			if err != nil && !reflect.DeepEqual(a, Answer{}) {
				t.Errorf("an answer beside an error: %+v, %v", a, err)
			}
			if a.Inactive && phase != PhasePrepare {
				t.Errorf("inactive to %s", phase)
			}
		}
	})
}

func FuzzParseRequest(f *testing.F) {
	for _, seed := range []string{"freeze set=1", "prepare volumes=/a%2C,/b timeout-ms=5 dry-run=true", "thaw outcome=ok x=y", "post set=%"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		r, err := ParseRequest(line)
		if err != nil || len(line) > MaxLine/4 {
			return
		}
		out, err := r.Line()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseRequest(strings.TrimSuffix(string(out), "\n"))
		if err != nil {
			t.Fatalf("%q became %q: %v", line, out, err)
		}
		if r.Phase == PhasePrepare && strings.Join(again.Volumes, "\x00") != strings.Join(r.Volumes, "\x00") ||
			again.Set != r.Set || again.Policy != r.Policy || again.Outcome != r.Outcome || again.Timeout != r.Timeout || again.DryRun != r.DryRun {
			t.Errorf("%+v became %+v", r, again)
		}
	})
}
