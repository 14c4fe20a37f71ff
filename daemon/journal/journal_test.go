package journal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func write(t *testing.T, dir string) []byte {
	t.Helper()
	j, err := Create(dir, "set")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []State{Doing, Done, Undoing} {
		if err := j.Write("prepare", s, map[string]string{"state": string(s)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "set.journal"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestLeftovers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j")
	if l, err := Leftovers(dir); l != nil || err != nil {
		t.Fatalf("no directory: got %v, %v", l, err)
	}
	write(t, dir)
	l, err := Leftovers(dir)
	if err != nil || len(l) != 1 || l[0].Name != "set" || len(l[0].Records) != 3 {
		t.Fatalf("got %+v, %v", l, err)
	}
	state, data, ok := l[0].Last("prepare")
	if !ok || state != Undoing || string(data) != `{"state":"doing"}` {
		t.Errorf("got %v, %s, %v", state, data, ok)
	}
	if _, _, ok := l[0].Last("verify"); ok {
		t.Error("a step that never began")
	}
	if err := l[0].Remove(); err != nil {
		t.Fatal(err)
	}
	if l, err := Leftovers(dir); len(l) != 0 || err != nil {
		t.Errorf("after remove: got %v, %v", l, err)
	}
}

func TestCreateRefusesASecondOne(t *testing.T) {
	dir := t.TempDir()
	write(t, dir)
	if _, err := Create(dir, "set"); !errors.Is(err, os.ErrExist) {
		t.Errorf("got %v", err)
	}
}

// A torn tail is dropped; anything else is refused.
func TestDamage(t *testing.T) {
	text := write(t, t.TempDir())
	second := bytes.IndexByte(text, '\n') + 1
	third := second + bytes.IndexByte(text[second:], '\n') + 1
	flip := func(at int) []byte {
		b := bytes.Clone(text)
		b[at] ^= 1
		return b
	}
	tests := []struct {
		name    string
		text    []byte
		records int
		corrupt bool
	}{
		{"whole", text, 3, false},
		{"empty", nil, 0, false},
		{"last newline missing", text[:len(text)-1], 2, false},
		{"last line torn", text[:third+5], 2, false},
		{"last line flipped", flip(third + 20), 2, true},
		{"first line torn", text[:4], 0, false},
		{"middle line flipped", flip(second + 20), 1, true},
		{"middle sum flipped", flip(second + 1), 1, true},
		{"middle line missing", append(bytes.Clone(text[:second]), text[third:]...), 1, true},
		{"first line missing", text[second:], 0, true},
		{"middle zeroed", append(append(bytes.Clone(text[:second]), make([]byte, third-second)...), text[third:]...), 1, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := Parse(tt.text)
			if len(r) != tt.records || errors.Is(err, ErrCorrupt) != tt.corrupt {
				t.Errorf("got %d records, %v", len(r), err)
			}
		})
	}
	for n := range text { // every possible torn tail
		if r, err := Parse(text[:n]); err != nil || len(r) > 2 {
			t.Errorf("torn at %d: got %d records, %v", n, len(r), err)
		}
	}
}

func FuzzParse(f *testing.F) {
	line, err := encode(Record{Seq: 1, Step: "prepare", State: Doing})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add([]byte("00000000 {}\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := Parse(text)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Error(err)
		}
		for i := range r {
			if r[i].Seq != i+1 {
				t.Error("out of turn")
			}
		}
	})
}

// A journal is open as long as its writer has it, and not afterwards.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	j, err := Create(dir, "set")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		left, err := Leftovers(dir)
		if err != nil || len(left) != 1 || left[0].Open() != want {
			t.Errorf("%+v, %v; open: want %v", left, err, want)
		}
		if want {
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
