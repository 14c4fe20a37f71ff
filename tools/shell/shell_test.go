// Package shell has shellcheck look at every shell line in the documentation. Scripts that are files of their own are make lint's.
package shell

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var block = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```\n")

// prompted are the commands of a transcript: lines that begin with a prompt.
var prompted = regexp.MustCompile(`(?m)^[#$] ((?:fermata|systemctl|journalctl|curl|set=|/usr).*)$`)

// cron are the commands of lines for /etc/cron.d, in blocks and in sentences.
var cron = regexp.MustCompile("(?m)(?:^|`)[0-9*/,-]+(?: [0-9*/,-]+){4} root ([^`\n]+)")

// scripts are the shell of a page: blocks that say so, as they are, the commands of transcripts, each block for itself, and those of cron.
func scripts(page string) []string {
	var all []string
	for _, c := range cron.FindAllStringSubmatch(page, -1) {
		all = append(all, "#!/bin/sh\n"+c[1]+"\n")
	}
	for _, b := range block.FindAllStringSubmatch(page, -1) {
		switch language, text := b[1], b[2]; {
		case language == "sh" || language == "bash":
			if !strings.HasPrefix(text, "#!") {
				text = "#!/bin/bash\n" + text
			}
			all = append(all, text)
		case language == "" && !strings.Contains(text, "<<"):
			var lines []string
			for _, c := range prompted.FindAllStringSubmatch(text, -1) {
				lines = append(lines, c[1])
			}
			if len(lines) > 0 {
				all = append(all, "#!/bin/bash\n"+strings.Join(lines, "\n")+"\n")
			}
		}
	}
	return all
}

func TestDocumentation(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	checked, crons := 0, 0
	for _, page := range append(pages, "../../README.md", "../../CONTRIBUTING.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		all := scripts(string(text))
		if filepath.Base(page) == "tutorial.md" { // its blocks are one script
			all = []string{"#!/bin/bash\nset -eu\n" + strings.ReplaceAll(strings.Join(all, ""), "#!/bin/bash\n", "")}
		}
		for _, s := range all {
			// What is left open in a fragment: variables from before it (SC2154), those for after it (SC2034), cd that fails (SC2164), and
			// what the command in quotes expands itself (SC2016), names in manifests (SC2094).
			c := exec.Command("shellcheck", "--exclude=SC2154,SC2034,SC2164,SC2016,SC2094", "-")
			c.Stdin = strings.NewReader(s)
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s\n%s", page, err, out, s)
			}
			checked++
		}
		for _, c := range cron.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(c[1], "%") { // a line's end to cron
				t.Errorf("%s: cron would cut %q", page, c[1])
			}
			crons++
		}
	}
	if crons < 3 {
		t.Errorf("%d lines for cron were found", crons)
	}
	if checked < 40 {
		t.Errorf("%d pieces of shell were found", checked)
	}
}

func TestScripts(t *testing.T) {
	got := scripts("```\n# fermata status\nversion 1\n# a remark\n```\n```sh\ntrue\n```\n```yaml\na: b\n```\n" +
		"With cron: `0 3 * * 1-5 root true x`.\n```\n*/15 * * * * root true; false\n```\n")
	want := []string{"#!/bin/sh\ntrue x\n", "#!/bin/sh\ntrue; false\n", "#!/bin/bash\nfermata status\n", "#!/bin/bash\ntrue\n"}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("%q", got)
	}
}
