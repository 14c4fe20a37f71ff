package main

import (
	"slices"
	"strings"
)

// mostUnsteady is how many top-level tests may fail at first without failing a stage.
const mostUnsteady = 2

// secondTry runs the tests that failed once more, by themselves, in a guest of their own where they want one, if they are
// few. Those that pass then count as unsteady: their first output is shown, and they are named at the end. Tests have races
// and time limits of real processes in them, and the machines that they run on sometimes stand still for seconds.
func (t tally) secondTry(run func(which []string) tally) tally {
	failed := t.failedTests()
	if t.ok() || len(failed) == 0 || len(failed) > mostUnsteady {
		return t
	}
	var names, packages []string
	for _, f := range failed {
		pkg, test, _ := strings.Cut(f, " ")
		names, packages = append(names, test), append(packages, "./"+pkg)
	}
	slices.Sort(packages)
	second := run(append([]string{"-run=^(" + strings.Join(names, "|") + ")$"}, slices.Compact(packages)...))
	if !second.ok() {
		return t
	}
	t.failed, t.unsteady = nil, failed
	return t
}

// failedTests names the top-level tests that failed, as "package Test"; nothing, if something else failed, too.
func (t tally) failedTests() []string {
	var tests, packages []string
	for _, f := range t.failed {
		pkg, test, isTest := strings.Cut(f, " ")
		if !isTest {
			packages = append(packages, pkg)
			continue
		}
		test, _, _ = strings.Cut(test, "/")
		tests = append(tests, pkg+" "+test)
	}
	for _, pkg := range packages {
		if !slices.ContainsFunc(tests, func(test string) bool { return strings.HasPrefix(test, pkg+" ") }) {
			return nil // it did not build, or died
		}
	}
	slices.Sort(tests)
	return slices.Compact(tests)
}
