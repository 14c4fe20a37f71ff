package mongodb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// maxDepth bounds documents in documents.
const maxDepth = 64

// errBSON says that what the server sent is no BSON (bsonspec.org).
var errBSON = errors.New("the server sent a document that cannot be understood")

// document is a command: elements in their order, the first is its name.
type document []element

type element struct {
	name  string
	value any // int32, int64, bool, string, []byte or document
}

// encode is a document in BSON.
func (d document) encode() []byte {
	b := make([]byte, 4)
	for _, e := range d {
		var kind byte
		var value []byte
		switch v := e.value.(type) {
		case string:
			kind = 0x02
			value = append(binary.LittleEndian.AppendUint32(nil, uint32(len(v)+1)), v...)
			value = append(value, 0)
		case document:
			kind, value = 0x03, v.encode()
		case []byte:
			kind = 0x05
			value = append(append(binary.LittleEndian.AppendUint32(nil, uint32(len(v))), 0), v...)
		case bool:
			kind, value = 0x08, []byte{0}
			if v {
				value[0] = 1
			}
		case int32:
			kind, value = 0x10, binary.LittleEndian.AppendUint32(nil, uint32(v))
		case int64:
			kind, value = 0x12, binary.LittleEndian.AppendUint64(nil, uint64(v))
		default:
			panic(fmt.Sprintf("internal error: a command has a %T", v))
		}
		b = append(b, kind)
		b = append(append(b, e.name...), 0)
		b = append(b, value...)
	}
	b = append(b, 0)
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	return b
}

// reply is a document that the server sent: strings, bool, int64 (all whole
// numbers), float64, []byte, reply (arrays too) and, for types that are of no interest, nil.
type reply map[string]any

// parseDocument reads one document and returns what follows it.
func parseDocument(b []byte, depth int) (reply, []byte, error) {
	if len(b) < 5 || depth == 0 {
		return nil, nil, errBSON
	}
	n := int64(binary.LittleEndian.Uint32(b))
	if n < 5 || n > int64(len(b)) || b[n-1] != 0 {
		return nil, nil, errBSON
	}
	body, rest := b[4:n-1], b[n:]
	r := reply{}
	for len(body) > 0 {
		kind := body[0]
		name, after, ok := cutString(body[1:])
		if !ok {
			return nil, nil, errBSON
		}
		value, after, err := parseValue(kind, after, depth)
		if err != nil {
			return nil, nil, err
		}
		r[name], body = value, after
	}
	return r, rest, nil
}

// sizes are those of types that always have the same, in bytes.
var sizes = map[byte]int{0x01: 8, 0x06: 0, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16, 0xFF: 0, 0x7F: 0}

func parseValue(kind byte, b []byte, depth int) (any, []byte, error) {
	if n, fixed := sizes[kind]; fixed {
		if len(b) < n {
			return nil, nil, errBSON
		}
		return fixedValue(kind, b[:n]), b[n:], nil
	}
	switch kind {
	case 0x03, 0x04:
		r, rest, err := parseDocument(b, depth-1)
		return r, rest, err
	case 0x02, 0x0D, 0x0E, 0x05:
		return parseText(kind, b)
	case 0x0B: // a regular expression: two strings
		_, b, ok := cutString(b)
		if ok {
			_, b, ok = cutString(b)
		}
		if !ok {
			return nil, nil, errBSON
		}
		return nil, b, nil
	}
	return nil, nil, fmt.Errorf("%w: type %#x", errBSON, kind)
}

func fixedValue(kind byte, b []byte) any {
	switch kind {
	case 0x01:
		return math.Float64frombits(binary.LittleEndian.Uint64(b))
	case 0x08:
		return b[0] != 0
	case 0x10:
		return int64(int32(binary.LittleEndian.Uint32(b)))
	case 0x12:
		return int64(binary.LittleEndian.Uint64(b))
	}
	return nil
}

// parseText reads a string or binary data: a length and that many bytes.
func parseText(kind byte, b []byte) (any, []byte, error) {
	if len(b) < 5 {
		return nil, nil, errBSON
	}
	n, b := int64(binary.LittleEndian.Uint32(b)), b[4:]
	if kind == 0x05 {
		b = b[1:] // its subtype
		if n > int64(len(b)) {
			return nil, nil, errBSON
		}
		return bytes.Clone(b[:n]), b[n:], nil
	}
	if n < 1 || n > int64(len(b)) || b[n-1] != 0 {
		return nil, nil, errBSON
	}
	return string(b[:n-1]), b[n:], nil
}

func cutString(b []byte) (string, []byte, bool) {
	before, after, ok := bytes.Cut(b, []byte{0})
	return string(before), after, ok
}

// sub is a document in the document, empty if there is none.
func (r reply) sub(name string) reply { d, _ := r[name].(reply); return d }

// text is a string, empty if there is none.
func (r reply) text(name string) string { s, _ := r[name].(string); return s }

// number is a number, which the server sends as it likes best.
func (r reply) number(name string) (int64, error) {
	switch v := r[name].(type) {
	case int64:
		return v, nil
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int64(v), nil
		}
	}
	return 0, fmt.Errorf("the server's answer has no number %s", name)
}

// yes is a bool or a number that is not 0.
func (r reply) yes(name string) bool {
	n, err := r.number(name)
	b, _ := r[name].(bool)
	return b || err == nil && n != 0
}
