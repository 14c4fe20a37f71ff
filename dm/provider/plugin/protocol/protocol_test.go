package protocol

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	document = "../../../../docs/providers.md"
	schema   = "../../../../docs/provider-protocol.schema.json"
)

// TestExample reads the example session of the documentation: every line is one of the protocol, with no key that it does
// not have, and answers follow their requests.
func TestExample(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(text), "```session\n")
	block, _, _ = strings.Cut(block, "```")
	asked := uint64(0)
	var methods []Method
	for line := range strings.Lines(block) {
		way, rest, _ := strings.Cut(line, " ")
		switch way {
		case ">":
			q, err := ParseRequest([]byte(rest))
			if err != nil || q.ID <= asked || !slices.Contains(Methods, q.Method) {
				t.Errorf("%s: %v", line, err)
			}
			asked, methods = q.ID, append(methods, q.Method)
			strict(t, rest, &q)
		case "<":
			a, err := ParseAnswer([]byte(rest))
			if err != nil || a.ID != asked {
				t.Errorf("%s: %v", line, err)
			}
			strict(t, rest, &a)
		default:
			t.Errorf("neither a request nor an answer: %s", line)
		}
	}
	if len(methods) < 15 {
		t.Errorf("the example shows %v", methods)
	}
	for _, m := range Methods {
		if !strings.Contains(string(text), "| `"+string(m)+"` |") {
			t.Errorf("no row for method %s", m)
		}
	}
}

func strict(t *testing.T, line string, into any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Errorf("%s: %v", line, err)
	}
}

// TestSchema compares the schema's keys with those of the types.
func TestSchema(t *testing.T) {
	text, err := os.ReadFile(schema)
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Defs map[string]struct {
			Properties map[string]any
			Required   []string
		} `json:"$defs"`
	}
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]any{
		"request": Request{}, "params": Params{}, "answer": Answer{}, "result": Result{}, "greeting": Greeting{}, "volume": Volume{},
		"claim": Claimed{}, "set": Set{}, "snapshot": Snapshot{}, "final": Final{}, "usage": Used{}, "pool": Pool{}, "error": Error{},
	} {
		var all, required []string
		kind := reflect.TypeOf(value)
		for i := range kind.NumField() {
			key, option, _ := strings.Cut(kind.Field(i).Tag.Get("json"), ",")
			all = append(all, key)
			if option == "" {
				required = append(required, key)
			}
		}
		def := s.Defs[name]
		var keys []string
		for key := range def.Properties {
			keys = append(keys, key)
		}
		slices.Sort(all)
		slices.Sort(keys)
		if !slices.Equal(all, keys) {
			t.Errorf("%s: the schema has %v, the protocol %v", name, keys, all)
		}
		slices.Sort(required)
		slices.Sort(def.Required)
		if !slices.Equal(required, def.Required) {
			t.Errorf("%s: the schema requires %v, the protocol %v", name, def.Required, required)
		}
	}
}

func TestParse(t *testing.T) {
	long := `{"fermata":1,"id":1,"error":{"code":"failed","message":"` + strings.Repeat("x", 5000) + `\u0007"}}`
	if a, err := ParseAnswer([]byte(long)); err != nil || len(a.Error.Message) > maxMessage+len("…") {
		t.Errorf("a long message: %v", err)
	}
	for line, want := range map[string]string{
		``: "no JSON", `{`: "no JSON", `null`: "version 0", `[]`: "no JSON", `{"fermata":1,"id":1}`: "neither",
		`{"fermata":1,"id":1,"result":{},"error":{"code":"failed","message":""}}`: "neither", `{"fermata":2,"id":1,"result":{}}`: "version 2",
		`{"fermata":1,"result":{}}`: "no id", `{"fermata":1,"id":-1,"result":{}}`: "no JSON", `{"fermata":1,"id":1,"result":{}} {}`: "no JSON",
		"{\"fermata\":1,\"id\":1,\"result\":{\"device\":\"\xff\"}}": "not UTF-8", `{"fermata":1,"id":1,"result":{"snapshots":{}}}`: "no JSON",
	} {
		if _, err := ParseAnswer([]byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
}

// What is read can be written and read again, and is fit to be shown.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"fermata":1,"id":7,"result":{}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		a, err := ParseAnswer(line)
		if err != nil {
			return
		}
		if a.Fermata != Version || a.ID == 0 || (a.Result == nil) == (a.Error == nil) {
			t.Errorf("%q: %+v", line, a)
		}
		if a.Error != nil && (len(a.Error.Message) > maxMessage+len("…") || regexp.MustCompile(`[\x00-\x1f\x7f]`).MatchString(a.Error.Message)) {
			t.Errorf("%q: %q", line, a.Error.Message)
		}
		again, err := Line(a)
		if err != nil {
			return // longer than a line, with its escapes
		}
		if bytes.Count(again, []byte("\n")) != 1 {
			t.Errorf("%q is more than one line", again)
		}
		b, err := ParseAnswer(again)
		if err != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%q: %+v, then %+v, %v", line, a, b, err)
		}
	})
}

func TestOmitted(t *testing.T) {
	many := make([]string, 1000)
	for i := range many {
		many[i] = "a\x1b" + strings.Repeat("b", 1000)
	}
	for _, tt := range []struct {
		all  []string
		n    int
		last string
	}{
		{nil, 0, ""},
		{[]string{"a", "b\n"}, 2, "b"},
		{many[:100], 100, "a " + strings.Repeat("b", 298) + "…"},
		{many, 101, "and 900 more"},
	} {
		got := Omitted(tt.all)
		if len(got) != tt.n || tt.n > 0 && got[tt.n-1] != tt.last {
			t.Errorf("%d: got %.400q", len(tt.all), got)
		}
		if again := Omitted(got); tt.n != 100 && !reflect.DeepEqual(again, got) {
			t.Errorf("bounded again: %.400q", again)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"fermata":1,"id":1,"method":"hello","timeout_ms":5000,"params":{"versions":[1]}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if q, err := ParseRequest(line); err == nil && (q.ID == 0 || q.Method == "" || q.Fermata != Version) {
			t.Errorf("%q: %+v", line, q)
		}
	})
}
