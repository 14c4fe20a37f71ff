package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/daemon/api"
)

func TestCreateStatus(t *testing.T) {
	degraded := api.Manifest{State: api.Complete, Consistency: api.Filesystem, Reasons: []string{"x"}}
	plan := degraded
	plan.State = api.Planned
	for _, test := range []struct {
		asked api.Consistency
		m     api.Manifest
		want  int
	}{
		{"", api.Manifest{State: api.Complete, Consistency: api.Application}, 0},
		{"", degraded, exitDegraded},
		{api.Application, degraded, exitDegraded},
		{api.Filesystem, degraded, 0},
		{api.Crash, degraded, 0},
		{"", plan, 0},
	} {
		if got := createStatus(api.Request{Consistency: test.asked}, &test.m); got != test.want {
			t.Errorf("asked for %q, got %s in state %s: status %d, want %d", test.asked, test.m.Consistency, test.m.State, got, test.want)
		}
	}
}

func TestChosenColumns(t *testing.T) {
	l := list[int]{columns: []column[int]{{name: "a"}, {name: "b", wide: true}, {name: "c"}}}
	for spec, want := range map[string]string{"": "ac", "wide": "abc", "b": "b", "c,a": "ca", "+b": "acb", "+": "!", "a,": "!", "x": "!", "wide,a": "!"} {
		got := ""
		columns, err := l.chosen(spec)
		for _, c := range columns {
			got += c.name
		}
		if err != nil {
			got = "!"
		}
		if got != want {
			t.Errorf("-o %s gives %q, %v, want %q", spec, got, err, want)
		}
	}
}

// What comes from file names and configuration must not command a terminal, nor break a table.
func TestPrintable(t *testing.T) {
	var out bytes.Buffer
	printTable(&app{out: &out}, nil, nil, [][]string{{"a\x1b[31m\nb", "x"}, {"", "é\u009b"}})
	if want := "a?[31m?b  x\n-         é?\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	if strings.ContainsAny(printable("\x00\x7f"), "\x00\x7f") {
		t.Error("printable")
	}
}
