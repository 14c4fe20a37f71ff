package metadata

import (
	"bytes"
	"strconv"
)

// value is a number or a string.
type value struct {
	text   []byte
	number uint64
	string bool
}

const (
	maxDepth  = 8       // of sections: LVM needs 4
	maxName   = 256     // bytes of a section's name or a key's
	maxValues = 1 << 16 // in a list
)

// scanner walks through a text.
type scanner struct {
	text   []byte
	at     int
	path   [][]byte
	values []value
}

// walk calls assign for each "key = value" in a text, with the names of the sections around it. What assign is given is overwritten
// afterwards.
func walk(text []byte, assign func(path [][]byte, key []byte, values []value) error) error {
	s := &scanner{text: text}
	for {
		s.space()
		switch c := s.next(); {
		case c == 0 && len(s.path) == 0: // the text ends with a NUL
			return nil
		case c == 0:
			return s.wrong("the end within a section")
		case c == '}' && len(s.path) > 0:
			s.at++
			s.path = s.path[:len(s.path)-1]
			continue
		}
		name := s.name()
		if len(name) == 0 || len(name) > maxName {
			return s.wrong("no name")
		}
		s.space()
		switch s.next() {
		case '{':
			s.at++
			if s.path = append(s.path, name); len(s.path) > maxDepth {
				return s.wrong("sections too deep")
			}
		case '=':
			s.at++
			if err := s.assigned(); err != nil {
				return err
			}
			if err := assign(s.path, name, s.values); err != nil {
				return err
			}
		default:
			return s.wrong("neither a section nor a value")
		}
	}
}

func (s *scanner) wrong(what string) error { return damaged("%s at byte %d", what, s.at) }

// next is the next byte, 0 at the end.
func (s *scanner) next() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

// space skips blanks and comments.
func (s *scanner) space() {
	for {
		switch s.next() {
		case ' ', '\t', '\n', '\r':
			s.at++
		case '#':
			end := bytes.IndexByte(s.text[s.at:], '\n')
			if end < 0 {
				s.at = len(s.text)
				return
			}
			s.at += end
		default:
			return
		}
	}
}

func (s *scanner) name() []byte {
	from := s.at
	for {
		switch c := s.next(); {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-', c == '+', c == '.', c == '/':
			s.at++
		default:
			return s.text[from:s.at]
		}
	}
}

// assigned reads what is behind "=".
func (s *scanner) assigned() error {
	s.values = s.values[:0]
	s.space()
	if s.next() != '[' {
		return s.value()
	}
	s.at++
	for {
		s.space()
		switch {
		case s.next() == ']':
			s.at++
			return nil
		case s.next() == ',' && len(s.values) > 0:
			s.at++
			continue
		case len(s.values) == maxValues:
			return s.wrong("a list too long")
		}
		if err := s.value(); err != nil {
			return err
		}
	}
}

func (s *scanner) value() error {
	if s.next() == '"' {
		return s.quoted()
	}
	from := s.at
	for c := s.next(); c >= '0' && c <= '9' || c == '-' || c == '.'; c = s.next() {
		s.at++
	}
	if from == s.at {
		return s.wrong("no value")
	}
	text := s.text[from:s.at]
	n, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil && !bytes.ContainsAny(text, "-.") { // nothing that is asked for is negative or a fraction
		return s.wrong("a number too large")
	}
	s.values = append(s.values, value{text: text, number: n})
	return nil
}

// quoted reads a string. A backslash takes the next byte as it is; the strings that are asked for have none.
func (s *scanner) quoted() error {
	s.at++
	for from := s.at; s.at < len(s.text); s.at++ {
		switch s.text[s.at] {
		case '\\':
			s.at++
		case '"':
			s.values = append(s.values, value{text: s.text[from:s.at], string: true})
			s.at++
			return nil
		case 0:
			return s.wrong("the end within a string")
		}
	}
	return s.wrong("the end within a string")
}
