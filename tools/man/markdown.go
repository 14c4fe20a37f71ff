package main

import (
	"regexp"
	"strings"
)

// A section of a page in docs: what stands under a heading of the second level. The first one has no title.
type section struct{ title, text string }

// sections splits a page. Its own title is left out.
func sections(page string) []section {
	all := []section{{}}
	code := false
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "```") {
			code = !code
		}
		switch {
		case !code && strings.HasPrefix(line, "# "):
		case !code && strings.HasPrefix(line, "## "):
			all = append(all, section{title: strings.TrimSpace(line[3:])})
		default:
			all[len(all)-1].text += line
		}
	}
	return all
}

// forMan rewrites markdown for a page of man: tables become lists, links what they say, and programs for other pages stay text.
func forMan(text string) string {
	var out []string
	var table []string
	code := false
	flush := func() {
		if len(table) > 0 {
			out = append(out, definitions(table))
			table = nil
		}
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			code = !code
			flush()
			out = append(out, strings.TrimRight(line[:3], "\n")+"\n")
			continue
		}
		switch {
		case code:
			out = append(out, line)
		case strings.HasPrefix(line, "|"):
			table = append(table, line)
		default:
			flush()
			out = append(out, unlink(line))
		}
	}
	flush()
	return strings.Join(out, "")
}

var (
	link     = regexp.MustCompile(`\[([^\]]*)\]\(([^)\s]*)\)`)
	manPages = map[string]string{
		"cli.md": "fermata(8)", "config.md": "fermata.yaml(5)", "writers.md": "fermata-writers(5)", "providers.md": "fermata-providers(7)",
	}
)

// unlink makes of a link its text; of one to a page that is a man page too, that page's name.
func unlink(text string) string {
	return link.ReplaceAllStringFunc(text, func(l string) string {
		m := link.FindStringSubmatch(l)
		file, _, _ := strings.Cut(m[2], "#")
		name := file[strings.LastIndex(file, "/")+1:]
		page, isPage := manPages[name]
		switch {
		case strings.HasPrefix(m[2], "http"):
			return m[1] + " <" + m[2] + ">"
		case m[1] == name && isPage:
			return page
		case isPage:
			return m[1] + " (see " + page + ")"
		case m[1] == name && !isPage:
			return "/usr/share/doc/fermata/" + name
		}
		return m[1]
	})
}

// cells splits a row of a table; \| is no edge.
func cells(row string) []string {
	row = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(row), "|"), "|")
	row = strings.ReplaceAll(row, `\|`, "\x00")
	var all []string
	for _, c := range strings.Split(row, "|") {
		all = append(all, strings.TrimSpace(strings.ReplaceAll(c, "\x00", "|")))
	}
	return all
}

// untitled are columns whose cells say all that they mean without the column's title.
var untitled = map[string]bool{"": true, "meaning": true, "value": true, "holds": true, "means": true, "what the writer does": true,
	"what it does there": true, "how": true}

// definitions makes a list of a table: what its first column has is defined by the others. The columns value and default belong to
// what is defined.
func definitions(table []string) string {
	var out strings.Builder
	out.WriteString("\n")
	head := cells(table[0])
	for _, row := range table[min(2, len(table)):] {
		c := cells(row)
		var says []string
		for i, text := range c[1:] {
			title := ""
			if i+1 < len(head) {
				title = head[i+1]
			}
			switch {
			case text == "":
			case title == "default" && len(says) > 0:
				says[len(says)-1] += "; default " + text
			case untitled[title]:
				says = append(says, text)
			default:
				says = append(says, title+" "+text)
			}
		}
		if len(says) == 0 {
			says = []string{"see below"}
		}
		out.WriteString(unlink(c[0]) + "\n: " + unlink(strings.Join(says, ". ")) + "\n\n")
	}
	return out.String()
}
