package config

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"
)

// maxProblems is how many problems of one file are listed.
const maxProblems = 200

// A decoder reads one file into a value by a schema. It goes on after a problem, so that one run
// shows all of them, and remembers where each value stands, so that later checks (a reference to
// another file, two keys that exclude each other) can point at it.
type decoder struct {
	file     string
	problems Problems
	at       map[string]position // of each value read, by its path; of the root by ""
	unread   bool                // the file could not be taken apart: nothing below the root is known
}

// decode reads data into value, which holds the defaults. The rest of the decoder's life is for
// checks that need the whole value.
func decode[T any](s source, schema reader[T], value *T) *decoder {
	d := &decoder{file: s.path, at: map[string]position{"": {1, 1}}}
	if s.err != nil {
		d.unread = true
		d.problems = Problems{{File: s.path, Severity: SeverityError, Message: s.err.Error()}}
		return d
	}
	root, fault := parse(s.data)
	if fault != nil {
		d.unread = true
		d.errorAt(fault.position, "", "%s", fault.message)
		return d
	}
	if root == nil {
		root = &yaml.Node{Kind: yaml.MappingNode}
	}
	d.at[""] = positionOf(root)
	d.checkTree(root, 0)
	if !d.failed() && root.Kind != yaml.MappingNode && !isNull(root) {
		d.errorf("", "a mapping (key: value) is expected, not %s", describe(root))
	}
	if d.failed() {
		d.unread = true
		return d
	}
	schema.read(d, "", root, value)
	return d
}

// failed reports whether the file is unusable.
func (d *decoder) failed() bool { return len(d.problems.Errors()) > 0 }

// has reports whether the file sets path.
func (d *decoder) has(path string) bool {
	_, ok := d.at[path]
	return ok
}

// full reports whether so many problems are known that further ones would not be listed.
func (d *decoder) full() bool { return len(d.problems) > maxProblems }

// broken reports whether the value at path itself has a problem already.
func (d *decoder) broken(path string) bool {
	return slices.ContainsFunc(d.problems, func(p Problem) bool { return p.Path == path })
}

// errorf reports a problem of the value at path; if the file does not set it, at the nearest value
// around it.
func (d *decoder) errorf(path, format string, args ...any) {
	d.errorAt(d.position(path), path, format, args...)
}

// warnf is errorf for something that works as it is written, but hardly as it is meant.
func (d *decoder) warnf(path, format string, args ...any) {
	d.add(SeverityWarning, d.position(path), path, fmt.Sprintf(format, args...))
}

func (d *decoder) errorAt(p position, path, format string, args ...any) {
	d.add(SeverityError, p, path, fmt.Sprintf(format, args...))
}

func (d *decoder) add(s Severity, p position, path, message string) {
	switch {
	case d.full():
		return
	case len(d.problems) == maxProblems:
		s, path, message = SeverityError, "", fmt.Sprintf("more than %d problems: the rest is not listed", maxProblems)
	}
	d.problems = append(d.problems, Problem{d.file, p.line, p.column, s, path, message})
}

func (d *decoder) position(path string) position {
	for {
		if p, ok := d.at[path]; ok {
			return p
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
}

// join and index make the paths of a mapping's and a list's values.
func join(path, key string) string {
	if strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		key = quote(key)
	}
	if path == "" {
		return shorten(key)
	}
	return path + "." + shorten(key)
}

func index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// isNull reports whether n has no value: `key:`, `key: ~`, `key: null`.
func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// describe names what stands at n, for "… is expected, not …".
func describe(n *yaml.Node) string {
	switch {
	case isNull(n):
		return "nothing"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	default:
		return quote(n.Value)
	}
}
