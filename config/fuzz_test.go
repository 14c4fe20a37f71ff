package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// slow is how long a file may take, whatever is in it: generous, for a busy machine and the race
// detector. A real one takes well below a millisecond.
const slow = 30 * time.Second

// lineBreaks are what YAML 1.1 (section 5.4) counts lines by.
var lineBreaks = regexp.MustCompile("\r\n|[\r\n\u0085\u2028\u2029]")

// checkSound reads data in each of the roles that a file can have, and checks what holds of every
// file: no panic, bounded time, and that problems are few, readable, and within the file.
func checkSound(t *testing.T, data []byte) {
	lines := 1 + len(lineBreaks.FindAll(data, -1))
	for _, name := range []string{"fermata.yaml", "policies.d/a.yaml", "writers.d/a.yaml", "providers.d/thin.yaml"} {
		start := time.Now()
		c, err := in(goldenFile{name, string(data)})
		if d := time.Since(start); d > slow {
			t.Errorf("%s: took %v", name, d)
		}
		var problems Problems
		switch {
		case c != nil && err == nil:
			problems = c.Problems
			if name == "policies.d/a.yaml" && len(c.Policies)+len(c.disabled["policy"]) != 1 {
				t.Errorf("%s: neither there nor disabled", name)
			}
		case c == nil && errors.As(err, &problems) && len(problems.Errors()) > 0:
		default:
			t.Fatalf("%s: %v, %v", name, c, err)
		}
		if len(problems) > maxProblems+1 {
			t.Errorf("%s: %d problems", name, len(problems))
		}
		for _, p := range problems {
			text := p.Error()
			if p.Line < 1 || p.Column < 1 || p.Line > lines+1 || p.Message == "" {
				t.Errorf("%s: %d:%d is no place in a file of %d lines: %q", name, p.Line, p.Column, lines, text)
			}
			if strings.ContainsAny(text, "\n\x00\x1b") || !utf8.ValidString(text) || len(text) > 2000 {
				t.Errorf("%s: unreadable: %q", name, text)
			}
			if strings.Contains(text, "internal error") {
				t.Logf("%s: %s", name, text)
			}
		}
	}
}

func FuzzLoad(f *testing.F) {
	goldens, err := filepath.Glob("testdata/*.golden")
	if err != nil || len(goldens) == 0 {
		f.Fatalf("no golden files: %v", err)
	}
	for _, name := range goldens {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for part := range strings.SplitSeq(string(data), "\n-- ") {
			if name, text, _ := strings.Cut(part, "\n"); name != "problems" {
				f.Add([]byte(text))
			}
		}
	}
	for _, text := range hostile(100) {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > maxFileSize {
			return
		}
		checkSound(t, data)
	})
}

// hostile makes files that have cost YAML parsers their time, memory or stack, by their kind.
func hostile(size int) map[string]string {
	repeat := func(s string) string { return strings.Repeat(s, size/len(s)) }
	var keys, laughs strings.Builder
	for i := 0; keys.Len() < size; i++ {
		fmt.Fprintf(&keys, "k%d: 1\n", i)
	}
	laughs.WriteString("a0: &a0 [x, x]\n")
	for i := 1; i < 30; i++ {
		fmt.Fprintf(&laughs, "a%d: &a%d [*a%d, *a%d]\n", i, i, i-1, i-1)
	}
	return map[string]string{
		"brackets":     repeat("["),
		"braces":       repeat("{a: "),
		"dashes":       repeat("- "),
		"questions":    repeat("? "),
		"colons":       repeat(": "),
		"comments":     repeat("#\n"),
		"empty lines":  repeat("\n"),
		"documents":    repeat("---\n"),
		"ends":         repeat("...\n"),
		"same key":     repeat("a: 1\n"),
		"keys":         keys.String(),
		"one scalar":   repeat("x"),
		"one key":      repeat("x") + ": 1",
		"quote":        `volumes: "` + repeat("x"),
		"quotes":       repeat(`"`),
		"folded":       "description: >\n" + repeat(" x\n"),
		"list":         "volumes: [" + repeat("/a, ") + "/a]",
		"words":        "session: " + repeat("a "),
		"labels":       "labels: {" + repeat("-: ~, ") + "}",
		"anchors":      repeat("- &a b\n"),
		"aliases":      "- &a b\n" + repeat("- *a\n"),
		"laughs":       laughs.String(),
		"tags":         repeat("- !!str\n"),
		"directives":   repeat("%TAG ! tag:a\n"),
		"tabs":         repeat("\t"),
		"line breaks":  repeat("\u2028\u0085\r") + "\n- a",
		"late error":   keys.String() + "a: b: c\n",
		"late quote":   keys.String() + "a: \"b\n",
		"not UTF-8":    keys.String() + "\xff",
		"flow of keys": "{" + repeat("a, ") + "}",
		"staircase":    staircase(size),
	}
}

// staircase is a mapping in a mapping in a mapping, each a column further right.
func staircase(size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestHostile(t *testing.T) {
	for kind, text := range hostile(maxFileSize - 64<<10) {
		t.Run(kind, func(t *testing.T) {
			start := time.Now()
			checkSound(t, []byte(text))
			t.Logf("%v for %d KiB in four roles", time.Since(start).Round(time.Millisecond), len(text)>>10)
		})
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"freeze", "freeze", 0}, {"freze", "freeze", 1}, {"thwa", "thaw", 1}, {"abc", "xyz", 3}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
