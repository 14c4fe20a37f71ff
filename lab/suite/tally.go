package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// tally counts the tests of a stage, subtests included.
type tally struct {
	passed          int
	failed, skipped []string
	unsteady        []string          // top-level tests that failed at first
	notes           []string          // what tests that pass have to tell all the same
	slow            []timed           // top-level tests, the slowest first
	text            map[string]string // output by test, of those that have not passed
}

// timed is how long a test took.
type timed struct {
	name    string
	seconds float64
}

// notePrefix begins a line of a test's output that the suite prints whatever becomes of the test.
const notePrefix = "note: "

// event is a line of go test -json (go doc test2json).
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64 // seconds
}

// count reads the events of a go test.
func count(r io.Reader) tally {
	t := tally{text: map[string]string{}}
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		if json.Unmarshal(line, &e) != nil {
			if len(line) > 0 {
				t.text[""] += string(line)
			}
		} else {
			t.take(e)
		}
		if err != nil {
			return t
		}
	}
}

func (t *tally) take(e event) {
	name := strings.TrimPrefix(e.Package, "github.com/fermata-project/fermata/")
	if e.Test != "" {
		name += " " + e.Test
	}
	switch e.Action {
	case "output", "build-output":
		if note, found := strings.CutPrefix(e.Output, notePrefix); found {
			t.notes = append(t.notes, strings.TrimSuffix(note, "\n"))
		}
		t.text[name] += e.Output
	case "pass":
		if e.Test != "" {
			t.passed++
		}
		if e.Test != "" && !strings.Contains(e.Test, "/") {
			t.slow = append(t.slow, timed{name, e.Elapsed})
		}
		delete(t.text, name)
	case "skip":
		if e.Test != "" { // a package without tests is not a test that was skipped
			t.skipped = append(t.skipped, name)
		}
		delete(t.text, name)
	case "fail", "build-fail":
		t.failed = append(t.failed, name)
	}
}

func (t *tally) fail(name, text string) {
	t.failed = append(t.failed, name)
	if t.text == nil {
		t.text = map[string]string{}
	}
	t.text[name] += text
}

// slowest names the n slowest tests that passed.
func (t *tally) slowest(n int) string {
	slices.SortStableFunc(t.slow, func(a, b timed) int { return cmp.Compare(b.seconds, a.seconds) })
	var names []string
	for _, x := range t.slow[:min(n, len(t.slow))] {
		names = append(names, fmt.Sprintf("%s %.0f s", x.name, x.seconds))
	}
	return strings.Join(names, ", ")
}

func (t *tally) ok() bool { return len(t.failed) == 0 }

func (t *tally) add(o tally) {
	t.passed += o.passed
	t.failed = append(t.failed, o.failed...)
	t.skipped = append(t.skipped, o.skipped...)
	t.unsteady = append(t.unsteady, o.unsteady...)
}

// output is what the tests that failed, or never ended, have said.
func (t *tally) output() string {
	var b strings.Builder
	names := make([]string, 0, len(t.text))
	for name := range t.text {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&b, "--- %s\n%s", name, t.text[name])
	}
	return b.String()
}
