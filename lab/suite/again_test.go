package main

import (
	"slices"
	"strings"
	"testing"
)

func TestSecondTry(t *testing.T) {
	for _, test := range []struct {
		name, failed string
		second       []string // what fails then
		ran          string
		ok           bool
	}{
		{name: "nothing failed", ok: true},
		{name: "a test of a table", failed: "dm TestA/x,dm TestA,dm", ran: "-run=^(TestA)$ ./dm", ok: true},
		{name: "two", failed: "dm TestA,dm,hooks/child TestB,hooks/child", ran: "-run=^(TestA|TestB)$ ./dm ./hooks/child", ok: true},
		{name: "two of one package", failed: "dm TestB,dm TestA,dm", ran: "-run=^(TestA|TestB)$ ./dm", ok: true},
		{name: "twice", failed: "dm TestA,dm", second: []string{"dm TestA"}, ran: "-run=^(TestA)$ ./dm"},
		{name: "too many", failed: "dm TestA,dm TestB,dm TestC,dm"},
		{name: "a package that does not build", failed: "dm TestA,dm,hooks"},
		{name: "a package that died", failed: "dm"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var first tally
			for f := range strings.SplitSeq(test.failed, ",") {
				if f != "" {
					first.fail(f, "")
				}
			}
			ran := ""
			got := first.secondTry(func(which []string) tally {
				ran = strings.Join(which, " ")
				return tally{failed: test.second, passed: 1}
			})
			if ran != test.ran || got.ok() != test.ok || test.ok != (len(got.failed) == 0) {
				t.Errorf("ran %q; failed: %q, unsteady: %q", ran, got.failed, got.unsteady)
			}
			if test.ok && test.failed != "" && !slices.Equal(got.unsteady, first.failedTests()) {
				t.Errorf("unsteady: %q", got.unsteady)
			}
		})
	}
}
