package packages

import (
	"os"
	"testing"
)

func TestSteps(t *testing.T) {
	page, err := os.ReadFile("../../docs/tutorial.md")
	if err != nil {
		t.Fatal(err)
	}
	all := steps(string(page))
	if len(all) < 12 {
		t.Fatalf("%d steps", len(all))
	}
	said := 0
	for _, s := range all {
		if s.prints != "" {
			said++
		}
	}
	if said < 8 {
		t.Errorf("%d of %d steps say what is printed", said, len(all))
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		prints, output string
		want           bool
	}{
		{"one\n", "one\n", true},
		{"one\n", "one\ntwo\n", false},
		{"…\nactive\n", "Setting up\nactive\n", true},
		{"…\nactive\n", "active\n", true},
		{"…\nactive\n", "inactive\n", false},
		{"a…c\n", "a b c\n", true},
		{"a…c\n", "a\nc\n", false},
		{"a\n…\nb\n…\n", "a\nx\nb\ny\nz\n", true},
		{" tea\n…\n", " tea\n\n", true},
	} {
		if got := matches(c.prints, c.output); got != c.want {
			t.Errorf("%q, %q: %v", c.prints, c.output, got)
		}
	}
}
