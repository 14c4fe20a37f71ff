package journal

import (
	"bytes"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
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

// A record that is written in part, because nothing more fits, costs no other one.
func TestFull(t *testing.T) {
	dir := t.TempDir()
	j, err := Create(dir, "set")
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Write("guard", Doing, nil); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "set.journal")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	full(t, uint64(len(whole)+20), func() {
		if err := j.Write("guard", Done, nil); !errors.Is(err, unix.EFBIG) {
			t.Errorf("a full one: %v", err)
		}
	})
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, whole) {
		t.Errorf("got %q, %v", now, err)
	}
	if err := j.Write("window", Doing, nil); err != nil {
		t.Error(err)
	}
	l, err := Leftovers(dir)
	if err != nil || len(l) != 1 || len(l[0].Records) != 2 || l[0].Records[1].Step != "window" {
		t.Errorf("got %+v, %v", l, err)
	}

	// One that cannot be cut back is not written any more.
	good := j.f
	if j.f, err = os.OpenFile("/dev/full", os.O_WRONLY, 0); err != nil {
		t.Fatal(err)
	}
	if err := j.Write("window", Done, nil); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("/dev/full: %v", err)
	}
	if err := j.f.Close(); err != nil {
		t.Error(err)
	}
	j.f = good
	if err := j.Write("window", Done, nil); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("after it: %v", err)
	}
	if err := j.Remove(); err != nil {
		t.Error(err)
	}
}

// full lets no file of this process grow beyond size meanwhile.
func full(t *testing.T, size uint64, do func()) {
	t.Helper()
	signal.Ignore(unix.SIGXFSZ)
	defer signal.Reset(unix.SIGXFSZ)
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: size, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
			t.Fatal(err)
		}
	}()
	do()
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

// What a leftover held is taken down as released, behind the last whole record.
func TestReleased(t *testing.T) {
	dir := t.TempDir()
	j, err := Create(dir, "set")
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"probe", "window"} {
		if err := j.Write(step, Doing, nil); err != nil {
			t.Fatal(err)
		}
		if step == "probe" {
			err = j.Write(step, Done, nil)
		} else {
			_, err = j.f.WriteString("00000000 {torn")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		l, err := Leftovers(dir)
		if err != nil || len(l) != 1 {
			t.Fatal(l, err)
		}
		if err := l[0].Released(); err != nil {
			t.Error(err)
		}
	}
	l, err := Leftovers(dir)
	if err != nil || len(l) != 1 || len(l[0].Records) != 4 {
		t.Fatalf("got %+v, %v", l, err)
	}
	for step, want := range map[string]State{"probe": Done, "window": Undone} {
		if state, _, _ := l[0].Last(step); state != want {
			t.Errorf("%s: %s, want %s", step, state, want)
		}
	}
}
