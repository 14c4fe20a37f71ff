package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// page is a man page: its text in markdown, without its title.
type page struct {
	name    string
	section int
	text    string
}

func (p page) file() string { return fmt.Sprintf("%s.%d", p.name, p.section) }

func (p page) markdown(date, version string) string {
	return fmt.Sprintf("# %s %d %q %q %q\n\n%s", strings.ToUpper(p.name), p.section, date, strings.TrimSpace("Fermata "+version), "Fermata", p.text)
}

// names of the pages, with what they are.
var names = []struct {
	name    string
	section int
	what    string
}{
	{"fermata", 8, "snapshot sets of volumes: all at one instant, with their applications holding still"},
	{"fermatad", 8, "the daemon that takes snapshot sets"},
	{"fermata-guard", 8, "thaws what fermatad froze, whatever happens to fermatad"},
	{"fermata-exporter", 8, "Fermata's metrics for Prometheus, and its status page"},
	{"fermata-writer", 8, "the writers that ship with Fermata"},
	{"fermata.yaml", 5, "configuration of Fermata: daemon, policies, writers, providers"},
	{"fermata-writers", 5, "how an application becomes a writer of Fermata's"},
	{"fermata-providers", 7, "plug-ins that make Fermata's snapshots"},
}

// sources are the pages in docs that man pages are made of as they are.
var sources = map[string]string{
	"fermata.yaml": "config.md", "fermata-writers": "writers.md", "fermata-providers": "providers.md",
	"fermatad": "man/fermatad.md", "fermata-guard": "man/fermata-guard.md", "fermata-exporter": "man/fermata-exporter.md",
}

func pages(docs string, verbs, recipes verb) ([]page, error) {
	var all []page
	for _, n := range names {
		p := page{name: n.name, section: n.section, text: "## NAME\n\n" + n.name + " - " + n.what + "\n\n"}
		source := sources[n.name]
		switch n.name {
		case "fermata":
			source = "cli.md"
		case "fermata-writer":
			source = "writers.md"
		}
		data, err := os.ReadFile(filepath.Join(docs, source))
		if err != nil {
			return nil, err
		}
		text := ""
		switch n.name {
		case "fermata":
			text, err = commandPage(sections(string(data)), verbs)
		case "fermata-writer":
			text = writerPage(recipes)
		default:
			text = asItIs(sections(string(data)))
		}
		if err != nil {
			return nil, err
		}
		p.text += text + seeAlso(n.name)
		all = append(all, p)
	}
	return all, nil
}

// asItIs has the sections of a page of docs.
func asItIs(all []section) string {
	var out strings.Builder
	for _, s := range all {
		title := strings.ToUpper(unlink(s.title))
		if title == "" {
			if strings.TrimSpace(s.text) == "" {
				continue
			}
			title = "DESCRIPTION"
		}
		fmt.Fprintf(&out, "## %s\n\n%s\n", strings.ReplaceAll(title, "`", ""), forMan(s.text))
	}
	return out.String()
}

// commandPage is fermata(8): synopsis and options are of the program, the rest is docs/cli.md's. Every verb must have a section
// there.
func commandPage(all []section, root verb) (string, error) {
	verbs := root.leaves()
	var out, commands strings.Builder
	described := map[string]bool{}
	var rest []section
	for _, s := range all[1:] {
		of := verbsOf(s.title, verbs)
		if len(of) == 0 {
			rest = append(rest, s)
			continue
		}
		var titles []string
		for _, v := range of {
			described[v.Path] = true
			titles = append(titles, v.Path)
		}
		text, documented := takeOptions(withoutSynopsis(s.text))
		fmt.Fprintf(&commands, "### %s\n\n%s\n%s\n", strings.Join(titles, ", "), synopsis(of), forMan(strings.ReplaceAll(text, "\n### ", "\n#### ")))
		for _, v := range of {
			if len(v.Options) == 0 {
				continue
			}
			for name, said := range documented {
				documented[name] = unlink(said)
			}
			fmt.Fprintf(&commands, "Options of **%s**:\n\n%s", v.Path, options(v, documented))
		}
	}
	for _, v := range verbs {
		if !described[v.Path] {
			return "", fmt.Errorf("docs/cli.md has no section about %s", v.Path)
		}
	}
	fmt.Fprintf(&out, "## SYNOPSIS\n\n**fermata** *COMMAND* [*OPTION*...] [*ARGUMENT*...]\n\n")
	intro, _, _ := strings.Cut(all[0].text, "```")
	fmt.Fprintf(&out, "## DESCRIPTION\n\n%s\n", forMan(intro))
	for _, v := range verbs {
		fmt.Fprintf(&out, "**%s**\n: %s\n\n", v.Path, plain(v.Short))
	}
	fmt.Fprintf(&out, "## OPTIONS OF ALL COMMANDS\n\n%s## COMMANDS\n\n%s", options(root, nil), commands.String())
	return out.String() + asItIs(rest), nil
}

// verbsOf are the verbs that a section's title names: "fermata policy list, policy run POLICY".
func verbsOf(title string, verbs []verb) []verb {
	names, ok := strings.CutPrefix(title, "fermata ")
	if !ok {
		return nil
	}
	var of []verb
	for _, v := range verbs {
		for name := range strings.SplitSeq(names, ", ") {
			if name == v.name() || strings.HasPrefix(name, v.name()+" ") {
				of = append(of, v)
			}
		}
	}
	return of
}

// withoutSynopsis leaves out a synopsis at the beginning of a section.
func withoutSynopsis(text string) string {
	if after, ok := strings.CutPrefix(strings.TrimSpace(text), "```\nfermata "); ok {
		_, text, _ = strings.Cut(after, "\n```\n")
	}
	return text
}

// writerPage is fermata-writer(8).
func writerPage(root verb) string {
	var out strings.Builder
	fmt.Fprintf(&out, "## SYNOPSIS\n\n**fermata-writer** *RECIPE* [*OPTION*...] [*ARGUMENT*...]\n\n")
	fmt.Fprintf(&out, "## DESCRIPTION\n\nEach recipe holds one application still for a snapshot set. fermatad starts it, by a writer's `session`, and speaks with it on its standard input and output: see fermata-writers(5), which describes the recipes too.\n\n## RECIPES\n\n")
	for _, v := range root.leaves() {
		fmt.Fprintf(&out, "### %s\n\n%s\n%s.\n\n%s", v.name(), synopsis([]verb{v}), plain(v.Short), options(v, nil))
	}
	out.WriteString("## EXIT STATUS\n\n0\n: the session has ended\n\n1\n: failed\n\n2\n: the command line is wrong\n\n")
	out.WriteString("## EXAMPLES\n\n```\n# /etc/fermata/writers.d/postgresql.yaml\nsession: [fermata-writer, postgresql]\nuser: postgres\n```\n\n")
	return out.String()
}

func seeAlso(name string) string {
	var others []string
	for _, n := range names {
		if n.name != name {
			others = append(others, fmt.Sprintf("**%s**(%d)", n.name, n.section))
		}
	}
	return "\n## SEE ALSO\n\n" + strings.Join(others, ", ") + "\n\nThe whole documentation: /usr/share/doc/fermata\n"
}
