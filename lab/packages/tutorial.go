package packages

import (
	"regexp"
	"strings"
)

// A step of the tutorial: what is typed, and what it prints; empty: that is not said.
type step struct{ typed, prints string }

var block = regexp.MustCompile("(?ms)^```(sh)?\n(.*?)^```\n")

// steps are the shell blocks of a page. A block without a language says what the one before prints.
func steps(page string) []step {
	var all []step
	for _, b := range block.FindAllStringSubmatch(page, -1) {
		if b[1] == "sh" {
			all = append(all, step{typed: b[2]})
		} else if len(all) > 0 {
			all[len(all)-1].prints = b[2]
		}
	}
	return all
}

// marker ends what a step has printed.
const marker = "=== the end of a step"

// script types all steps, and stops at the first that fails.
func script(all []step) string {
	var out strings.Builder
	out.WriteString("set -euo pipefail\n")
	for _, s := range all {
		out.WriteString(s.typed + "echo '" + marker + "'\n")
	}
	return out.String()
}

// matches says whether output is what the tutorial prints: … stands for anything in a line, and alone in a line for any number of lines.
func matches(prints, output string) bool {
	pattern := regexp.QuoteMeta(strings.TrimRight(prints, "\n") + "\n")
	pattern = regexp.MustCompile(`(?m)^…\n`).ReplaceAllString(pattern, `(?:.*\n)*?`)
	pattern = strings.ReplaceAll(pattern, "…", `.*`)
	return regexp.MustCompile(`^` + pattern + `$`).MatchString(strings.TrimRight(output, "\n") + "\n")
}
