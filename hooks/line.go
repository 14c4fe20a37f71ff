package hooks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxLine is the longest line of a session in bytes, its newline included.
const MaxLine = 64 << 10

// Request is one line from Fermata to a session.
type Request struct {
	Phase   Phase
	Timeout time.Duration // how long Fermata waits for the answer; 0: not said
	Event
}

// Line returns the request as a line with its newline. It fails if the line
// would be longer than MaxLine.
func (r Request) Line() ([]byte, error) {
	var b strings.Builder
	b.WriteString(string(r.Phase))
	put := func(key, escaped string) {
		if escaped != "" {
			b.WriteString(" " + key + "=" + escaped)
		}
	}
	put("set", escape(r.Set))
	put("policy", escape(r.Policy))
	put("outcome", escape(string(r.Outcome)))
	put("dry-run", strconv.FormatBool(r.DryRun))
	if r.Timeout > 0 {
		put("timeout-ms", strconv.FormatInt(max(1, r.Timeout.Milliseconds()), 10))
	}
	if r.Phase == PhasePrepare || slices.Contains(Asides, r.Phase) {
		volumes := make([]string, len(r.Volumes))
		for i, v := range r.Volumes {
			volumes[i] = escape(v)
		}
		put("volumes", strings.Join(volumes, ","))
	}
	put("prepared", escape(preparedJSON(r.Prepared)))
	b.WriteByte('\n')
	if b.Len() > MaxLine {
		return nil, fmt.Errorf("the request has %d bytes, more than the %d of a line: ask for fewer volumes", b.Len(), MaxLine)
	}
	return []byte(b.String()), nil
}

// maxPrepared is the most that is handed back of what a writer said to prepare, in bytes of JSON: escaped, it leaves room
// for the volumes in a line.
const maxPrepared = 16 << 10

// preparedJSON is what a writer said to prepare, or empty if it said nothing; too large values are left out, and named.
func preparedJSON(data map[string]any) string {
	if len(data) == 0 {
		return ""
	}
	text, err := boundedJSON(data, maxPrepared)
	if err != nil {
		return "" // it came from JSON
	}
	return string(text)
}

// ParseRequest reads a line without its newline. Unknown keys are ignored, as
// writers have to do.
func ParseRequest(line string) (Request, error) {
	words := strings.Split(line, " ")
	r := Request{Phase: Phase(words[0])}
	if !r.Phase.known() {
		return Request{}, fmt.Errorf("unknown phase in request %s", quote(line))
	}
	for _, word := range words[1:] {
		key, value, ok := strings.Cut(word, "=")
		if !ok {
			return Request{}, fmt.Errorf("no key=value in request: %s", quote(word))
		}
		if err := r.set(key, value); err != nil {
			return Request{}, fmt.Errorf("bad %s in request: %w", quote(key), err)
		}
	}
	return r, nil
}

func (r *Request) set(key, value string) (err error) {
	switch key {
	case "set":
		r.Set, err = unescape(value)
	case "policy":
		r.Policy, err = unescape(value)
	case "outcome":
		var s string
		s, err = unescape(value)
		r.Outcome = Outcome(s)
	case "dry-run":
		r.DryRun, err = strconv.ParseBool(value)
	case "timeout-ms":
		var ms uint32
		ms, err = parseUint32(value)
		r.Timeout = time.Duration(ms) * time.Millisecond
	case "prepared":
		var s string
		if s, err = unescape(value); err == nil {
			r.Prepared, err = parseObject(s)
		}
	case "volumes":
		r.Volumes = nil
		for _, v := range strings.Split(value, ",") {
			v, err = unescape(v)
			if err != nil {
				return err
			}
			r.Volumes = append(r.Volumes, v)
		}
	}
	return err
}

func parseUint32(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}

// escape writes every byte outside the grammar's own as %XX.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~/:@+", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func unescape(s string) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", fmt.Errorf("cut off escape in %s", quote(s))
		}
		c, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", fmt.Errorf("bad escape in %s", quote(s))
		}
		b.WriteByte(byte(c))
		i += 2
	}
	return b.String(), nil
}

// FormatAnswer returns the line, with its newline, that a session answers to
// phase. An answer that would be longer than MaxLine loses its largest values;
// their names are then listed under "omitted".
func FormatAnswer(phase Phase, a Answer, err error) []byte {
	switch {
	case errors.Is(err, ErrHoldLost) && phase == PhaseThaw:
		return textLine("lost", strings.TrimPrefix(err.Error(), ErrHoldLost.Error()+": ")) // the word says it
	case err != nil:
		return textLine("error", err.Error())
	case a.Inactive:
		return textLine("inactive", a.Text)
	case len(a.Data) == 0:
		return []byte("ok\n")
	}
	object, err := boundedJSON(a.Data, MaxLine-len("ok \n"))
	if err != nil {
		return textLine("error", "internal error: "+err.Error())
	}
	return append(append([]byte("ok "), object...), '\n')
}

// textLine puts text, made one line and cut to 4 KiB, behind word.
func textLine(word, text string) []byte {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "?")), " ")
	if len(text) > 4<<10 {
		text = strings.ToValidUTF8(text[:4<<10], "") + "…"
	}
	if text == "" {
		return []byte(word + "\n")
	}
	return []byte(word + " " + text + "\n")
}

// boundedJSON encodes data in at most limit bytes, leaving out the largest
// values if need be.
func boundedJSON(data map[string]any, limit int) ([]byte, error) {
	kept := make(map[string]any, len(data)+1)
	type entry struct {
		name string
		size int
	}
	var entries []entry
	for name, value := range data {
		one, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		kept[name] = value
		entries = append(entries, entry{name, len(one)})
	}
	sort.Slice(entries, func(i, j int) bool {
		if entries[i].size != entries[j].size {
			return entries[i].size > entries[j].size
		}
		return entries[i].name < entries[j].name
	})
	var omitted []string
	for {
		object, err := json.Marshal(kept)
		if err != nil || len(object) <= limit {
			return object, err
		}
		if len(entries) == 0 {
			return []byte(`{"omitted":["*"]}`), nil
		}
		delete(kept, entries[0].name)
		omitted = append(omitted, entries[0].name)
		kept["omitted"] = omitted
		entries = entries[1:]
	}
}

// errGarbage is the root of all complaints about the grammar.
var errGarbage = errors.New("not an answer")

// refusal is a writer's own word for why it cannot.
type refusal string

func (r refusal) Error() string { return string(r) }

// parseAnswer reads a session's line, without its newline, as the answer to
// phase. An answer "error" is returned as a refusal, "lost" as ErrHoldLost; what
// is not in the grammar, as errGarbage.
func parseAnswer(phase Phase, line string) (Answer, error) {
	if !utf8.ValidString(line) {
		return Answer{}, fmt.Errorf("%w to %s: %s is not UTF-8", errGarbage, phase, quote(line))
	}
	word, rest, _ := strings.Cut(line, " ")
	switch {
	case word == "ok" && rest == "":
		return Answer{}, nil
	case word == "ok":
		data, err := parseObject(rest)
		if err != nil {
			return Answer{}, fmt.Errorf("%w to %s: %s: %w", errGarbage, phase, quote(line), err)
		}
		return Answer{Data: data}, nil
	case word == "inactive" && phase == PhasePrepare:
		return Answer{Inactive: true, Text: rest}, nil
	case word == "lost" && phase == PhaseThaw:
		return Answer{}, fmt.Errorf("%w: %s", ErrHoldLost, orUnsaid(rest))
	case word == "error":
		return Answer{}, refusal(orUnsaid(rest))
	}
	return Answer{}, fmt.Errorf("%w to %s: %s", errGarbage, phase, quote(line))
}

// parseObject reads exactly one JSON object.
func parseObject(s string) (map[string]any, error) {
	if !strings.HasPrefix(s, "{") {
		return nil, errors.New("no JSON object")
	}
	d := json.NewDecoder(bytes.NewReader([]byte(s)))
	d.UseNumber()
	var object map[string]any
	if err := d.Decode(&object); err != nil {
		return nil, fmt.Errorf("bad JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text after the JSON object")
	}
	return object, nil
}

func orUnsaid(s string) string {
	if s == "" {
		return "no reason given"
	}
	return s
}

// quote shows foreign text in a message: escaped, and at most 80 bytes of it.
func quote(s string) string {
	if len(s) > 80 {
		return strconv.Quote(s[:80]) + "…"
	}
	return strconv.Quote(s)
}
