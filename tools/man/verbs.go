package main

import (
	"fmt"
	"regexp"
	"strings"
)

// verb and option are cmd/reference's, which prints them.
type verb struct {
	Path, Usage, Short string
	Options            []option
	Verbs              []verb
}

type option struct{ Name, Shorthand, Value, Default, Text string }

// leaves are the verbs that do something, in the tree's order.
func (v verb) leaves() []verb {
	if len(v.Verbs) == 0 {
		return []verb{v}
	}
	var all []verb
	for _, below := range v.Verbs {
		all = append(all, below.leaves()...)
	}
	return all
}

// name is the verb without the program.
func (v verb) name() string {
	_, name, _ := strings.Cut(v.Path, " ")
	return name
}

// synopsis is a line for each verb.
func synopsis(verbs []verb) string {
	var lines []string
	for _, v := range verbs {
		lines = append(lines, v.Usage)
	}
	return "```\n" + strings.Join(lines, "\n") + "\n```\n"
}

// options is a list of a verb's options; where the documentation says more about one than its help, that.
func options(v verb, documented map[string]string) string {
	var out strings.Builder
	for _, o := range v.Options {
		term := "**--" + o.Name + "**"
		if o.Shorthand != "" {
			term = "**-" + o.Shorthand + "**, " + term
		}
		if o.Value != "" {
			term += " *" + o.Value + "*"
		}
		text, ok := documented[o.Name]
		if !ok {
			text = plain(o.Text)
			if o.Default != "" && !strings.Contains(text, "default") {
				text += " (default " + plain(o.Default) + ")"
			}
		}
		fmt.Fprintf(&out, "%s\n: %s\n\n", term, text)
	}
	return out.String()
}

// plain is text that markdown leaves as it is.
func plain(text string) string {
	return regexp.MustCompile(`[\\*_\[\]<>|]`).ReplaceAllString(text, `\$0`)
}

var optionName = regexp.MustCompile(`--([a-z][a-z-]*)`)

// takeOptions splits a section into its text without tables of options, and what those say, by the options' names. Of an option
// with several rows all texts are kept.
func takeOptions(text string) (rest string, documented map[string]string) {
	documented = map[string]string{}
	var lines []string
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "| `-"):
			row := cells(line)
			for _, name := range optionName.FindAllStringSubmatch(row[0], -1) {
				said := row[1]
				if before := documented[name[1]]; before != "" {
					said = before + "; " + row[0] + ": " + said
				}
				documented[name[1]] = said
			}
		case strings.HasPrefix(line, "| option | |"):
		case strings.HasPrefix(line, "|---|---|\n") && strings.TrimSpace(lines[len(lines)-1]) == "":
		default:
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, ""), documented
}
