//go:build lab

package packages

import (
	"strings"
	"testing"

	"github.com/fermata-project/fermata/lab/labtest"
)

// completions types into real shells, with what the package has installed for them. What is completed comes from the daemon: a set, a
// policy, a writer.
func completions(t *testing.T, set string) {
	for line, want := range map[string]string{
		"fermata snapshot umount " + set[:10]: set,
		"fermata policy run sl":               "slow",
		"fermata writer show sl":              "slow",
	} {
		want := line[:strings.LastIndex(line, " ")+1] + want
		for _, shell := range []string{"bash", "zsh"} {
			if out, status := labtest.Try(t, "python3", "testdata/complete.py", shell, line, want); status != 0 {
				t.Errorf("%s, %q: %s", shell, line, out)
			}
		}
		if out := labtest.Run(t, "fish", "-c", `complete -C "$argv[1]"`, line); !strings.Contains(out, want[strings.LastIndex(want, " ")+1:]) {
			t.Errorf("fish, %q: %q", line, out)
		}
	}
}
