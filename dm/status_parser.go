package dm

import (
	"fmt"
	"strings"
)

// parser reads the words of a status or table line. It keeps the first thing that is wrong, so that callers check once;
// it does not allocate until then.
type parser struct {
	kind string // of line, for the error
	text string // the whole line, for the error
	rest string
	bad  string // what was expected and not found
}

func (p *parser) err() error {
	if p.bad == "" {
		return nil
	}
	return fmt.Errorf("cannot parse %s %s: no valid %s", p.kind, quote(p.text), p.bad)
}

func (p *parser) fail(what string) {
	if p.bad == "" {
		p.bad = what
	}
}

func (p *parser) more() bool { return p.bad == "" && strings.TrimLeft(p.rest, " ") != "" }

func (p *parser) word() string {
	w, rest := word(p.rest)
	p.rest = rest
	return w
}

func (p *parser) uint(what string) uint64 {
	n, err := parseUint(p.word())
	if err != nil {
		p.fail(what)
	}
	return n
}

func (p *parser) uintOrDash(what string) (n uint64, ok bool) {
	w := p.word()
	if w == "-" {
		return 0, false
	}
	n, err := parseUint(w)
	if err != nil {
		p.fail(what)
	}
	return n, err == nil
}

// ratio reads "USED/TOTAL".
func (p *parser) ratio(what string) (used, total uint64) {
	a, b, _ := strings.Cut(p.word(), "/")
	used, err1 := parseUint(a)
	total, err2 := parseUint(b)
	if err1 != nil || err2 != nil {
		p.fail(what)
	}
	return used, total
}

// choice reads one of the words and gives its index.
func (p *parser) choice(what string, words ...string) int {
	w := p.word()
	for i, candidate := range words {
		if w == candidate {
			return i
		}
	}
	p.fail(what)
	return 0
}

func (p *parser) dev(what string) Dev {
	a, b, ok := strings.Cut(p.word(), ":")
	major, err1 := parseUint(a)
	minor, err2 := parseUint(b)
	if !ok || err1 != nil || err2 != nil || major > maxMajor || minor > maxMinor {
		p.fail(what)
		return 0
	}
	return MkDev(uint32(major), uint32(minor))
}

// features reads a count and as many words.
func (p *parser) features() []string {
	n := p.uint("number of features")
	var words []string
	for range min(n, 64) {
		w := p.word()
		if w == "" {
			p.fail("features")
			return nil
		}
		words = append(words, w)
	}
	if n > 64 {
		p.fail("number of features")
	}
	return words
}

func (p *parser) end() {
	if p.more() {
		p.fail("end of line")
	}
}
