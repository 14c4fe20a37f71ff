package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

const (
	maxFileSize = 1 << 20 // bytes; a hand-written file has a few thousand
	maxDepth    = 16      // nested lists and mappings; the schema needs 4
	// maxLocate bounds the bytes parsed again to find the column of a syntax error.
	maxLocate = 2 << 20
)

// position is a place in a file: line and column from 1, the column in characters.
type position struct{ line, column int }

// fault is why a text is no usable YAML document, and where.
type fault struct {
	position
	message string
}

// parse reads the one document in data as a tree of nodes, or nil if there is nothing in it but
// comments. Only what all files have in common is checked here: UTF-8, syntax, one document.
func parse(data []byte) (*yaml.Node, *fault) {
	if !utf8.Valid(data) {
		return nil, &fault{firstInvalid(data), "the file is not UTF-8: convert it, for example with iconv"}
	}
	documents := yaml.NewDecoder(bytes.NewReader(data))
	root, err := next(documents)
	if err != nil {
		return nil, syntaxFault(data, err)
	}
	second, err := next(documents)
	switch {
	case err != nil:
		return nil, syntaxFault(data, err)
	case second != nil:
		return nil, &fault{positionOf(second), "a second document starts here: write one document a file"}
	case root == nil || len(root.Content) == 0:
		return nil, nil
	}
	return root.Content[0], nil
}

// next reads one document, nil at the end. The parser is no longer maintained and has panicked on
// hostile input before; a bad file must cost that file, not the daemon.
func next(documents *yaml.Decoder) (node *yaml.Node, err error) {
	defer func() {
		if p := recover(); p != nil {
			node, err = nil, fmt.Errorf("internal error: yaml parser: %v", p)
		}
	}()
	var document yaml.Node
	if err := documents.Decode(&document); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return &document, nil
}

// yamlPrefix is what yaml.v3 puts before a message. Its errors have no type and no column.
var yamlPrefix = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

func yamlMessage(err error) string { return yamlPrefix.ReplaceAllString(err.Error(), "") }

func syntaxFault(data []byte, err error) *fault {
	message := yamlMessage(err)
	p, ok := locate(data, message)
	if !ok {
		p = position{1, 1}
		if line := yamlPrefix.FindStringSubmatch(err.Error()); line != nil {
			_, _ = fmt.Sscan(line[1], &p.line)
		}
	}
	return &fault{p, "cannot parse YAML: " + message + hint(data, p)}
}

// hint says what to do about the characters that most often stand where a parser stops.
func hint(data []byte, p position) string {
	lines := bytes.SplitN(data, []byte("\n"), p.line+1)
	if p.line > len(lines) {
		return ""
	}
	switch line := []rune(string(lines[p.line-1])); {
	case p.column > len(line):
		return ""
	case line[p.column-1] == '\t':
		return ": indent with spaces, not with tabs"
	case line[p.column-1] == ':':
		return `: quote the text if ": " is part of it`
	case strings.ContainsRune("@`%", line[p.column-1]):
		return ": quote a text that begins so"
	case strings.ContainsRune(`"'`, line[p.column-1]):
		return ": look at the quotes here"
	}
	return ""
}

// locate finds where a syntax error begins: the last character of the shortest beginning of data
// that fails with the same message and goes on failing with it, however much of the rest is added.
// It looks from the end, first by lines, then by characters, and gives up beyond maxLocate.
func locate(data []byte, message string) (position, bool) {
	budget := maxLocate
	fails := func(prefix []byte) bool {
		budget -= len(prefix)
		documents := yaml.NewDecoder(bytes.NewReader(prefix))
		for budget >= 0 {
			node, err := next(documents)
			if err != nil {
				return yamlMessage(err) == message
			}
			if node == nil {
				return false
			}
		}
		return false
	}

	end := len(data)
	for end > 0 {
		shorter := bytes.LastIndexByte(data[:end-1], '\n') + 1
		if !fails(data[:shorter]) {
			break
		}
		end = shorter
	}
	for end > 0 {
		_, size := utf8.DecodeLastRune(data[:end])
		if !fails(data[:end-size]) {
			break
		}
		end -= size
	}
	if budget < 0 || end == 0 {
		return position{}, false
	}
	_, size := utf8.DecodeLastRune(data[:end])
	return positionAt(data, end-size), true
}

func firstInvalid(data []byte) position {
	offset := 0
	for offset < len(data) {
		r, size := utf8.DecodeRune(data[offset:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		offset += size
	}
	return positionAt(data, offset)
}

func positionAt(data []byte, offset int) position {
	start := bytes.LastIndexByte(data[:offset], '\n') + 1
	return position{
		line:   bytes.Count(data[:start], []byte{'\n'}) + 1,
		column: utf8.RuneCount(data[start:offset]) + 1,
	}
}

func positionOf(n *yaml.Node) position {
	return position{max(n.Line, 1), max(n.Column, 1)}
}

// checkTree reports what YAML allows and a configuration file does not need: anchors and aliases
// (which can make a small file expand without end), tags (which make a text something else than it
// looks like), and depth.
func (d *decoder) checkTree(n *yaml.Node, depth int) {
	switch {
	case depth > maxDepth:
		d.errorAt(positionOf(n), "", "nested deeper than %d levels", maxDepth)
		return
	case n.Kind == yaml.AliasNode:
		d.errorAt(positionOf(n), "", "aliases are not supported: write the value out instead of %s", quote("*"+n.Value))
		return
	case n.Anchor != "":
		d.errorAt(positionOf(n), "", "anchors are not supported: remove %s", quote("&"+n.Anchor))
	}
	if n.Style&yaml.TaggedStyle != 0 {
		d.errorAt(positionOf(n), "", "tags are not supported: remove %s", quote(n.Tag))
	}
	for _, child := range n.Content {
		d.checkTree(child, depth+1)
	}
}
