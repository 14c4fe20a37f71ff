package sqlite

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/hooks"
)

// blank is the beginning of a database, as far as it is looked at.
func blank(version byte) []byte {
	b := make([]byte, 512)
	copy(b, "SQLite format 3\x00")
	b[18], b[19] = version, version
	binary.BigEndian.PutUint32(b[24:], 7)
	return b
}

func put(t *testing.T, path string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func request(dir string) hooks.Request {
	return hooks.Request{Timeout: time.Minute, Event: hooks.Event{Set: "s", Volumes: []string{dir}}}
}

func newWriter(t *testing.T, o Options) *writer {
	t.Helper()
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r.(*writer)
}

// held is a writer that holds these databases.
func held(t *testing.T, paths ...string) (*writer, map[string]any) {
	t.Helper()
	w := newWriter(t, Options{Files: paths})
	if _, err := w.Prepare(t.Context(), request(filepath.Dir(paths[0]))); err != nil {
		t.Fatal(err)
	}
	data, err := w.Freeze(t.Context(), request(""))
	if err != nil {
		t.Fatal(err)
	}
	return w, data
}

func TestParseHeader(t *testing.T) {
	for _, test := range []struct {
		name string
		in   []byte
		want header
		err  error
	}{
		{"empty", nil, header{}, nil},
		{"rollback", blank(1), header{changes: 7}, nil},
		{"wal", blank(2), header{wal: true, changes: 7}, nil},
		{"short", blank(1)[:99], header{}, errNotSQLite},
		{"text", bytes.Repeat([]byte("x"), 200), header{}, errNotSQLite},
	} {
		if got, err := parseHeader(test.in); got != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s: %+v, %v", test.name, got, err)
		}
	}
}

// Two of these exclude each other; how, the database's mode decides.
func TestHolds(t *testing.T) {
	dir := t.TempDir()
	for name, test := range map[string]struct {
		content []byte
		shm     bool
		how     string
	}{
		"new":      {nil, false, byReserved},
		"rollback": {blank(1), false, byReserved},
		"wal":      {blank(2), true, byLog},
		"unused":   {blank(2), false, byExclusive},
	} {
		t.Run(name, func(t *testing.T) {
			path := put(t, filepath.Join(dir, name), test.content)
			if test.shm {
				put(t, path+"-shm", nil)
			}
			w, data := held(t, path)
			if how := data["databases"].([]any)[0].(map[string]any)["held_by"]; how != test.how {
				t.Errorf("held by %v, want %s", how, test.how)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			other := newWriter(t, Options{Files: []string{path}})
			if _, err := other.Prepare(ctx, request(dir)); err != nil {
				t.Errorf("prepare beside a hold: %v", err)
			}
			if _, err := other.Freeze(ctx, request(dir)); !errors.Is(err, errBusy) {
				t.Errorf("a second hold: %v", err)
			}
			if _, err := w.Thaw(t.Context(), request("")); err != nil {
				t.Errorf("Thaw() = %v", err)
			}
			if _, err := other.Freeze(t.Context(), request(dir)); err != nil {
				t.Errorf("after the thaw: %v", err)
			}
		})
	}
}

func TestHoldLost(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(t *testing.T, path string)
		want  string
	}{
		"removed":      {func(t *testing.T, path string) { _ = os.Remove(path) }, "no such file"},
		"-shm removed": {func(t *testing.T, path string) { _ = os.Remove(path + "-shm") }, "no such file"},
		"replaced": {func(t *testing.T, path string) {
			if err := os.Rename(put(t, path+".new", blank(2)), path); err != nil {
				t.Fatal(err)
			}
		}, "replaced by another file"},
		"written": {func(t *testing.T, path string) {
			time.Sleep(20 * time.Millisecond) // a file's time has the steps of the kernel's clock
			put(t, path, blank(2))
		}, "in spite of its lock"},
		"logged": {func(t *testing.T, path string) { put(t, path+"-wal", []byte("x")) }, "in spite of its lock"},
	} {
		t.Run(name, func(t *testing.T) {
			path := put(t, filepath.Join(t.TempDir(), "db"), blank(2))
			put(t, path+"-shm", nil)
			w, _ := held(t, path)
			test.spoil(t, path)
			if _, err := w.Thaw(t.Context(), request("")); !errors.Is(err, hooks.ErrHoldLost) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Thaw() = %v", err)
			}
		})
	}
	t.Run("unlocked", func(t *testing.T) {
		path := put(t, filepath.Join(t.TempDir(), "db"), blank(1))
		w, _ := held(t, path)
		if err := lock(w.held[0].file, unix.F_UNLCK, reservedByte, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Thaw(t.Context(), request("")); !errors.Is(err, hooks.ErrHoldLost) || !strings.Contains(err.Error(), "is gone") {
			t.Errorf("Thaw() = %v", err)
		}
	})
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"a.db", "b.db", "b.db-wal", "a.db-journal"} {
		put(t, at(name), blank(1))
	}
	put(t, at("empty.db"), nil)
	put(t, at("text.db"), []byte("hello"))
	if err := errors.Join(os.Mkdir(at("folder.db"), 0o755), unix.Mkfifo(at("pipe.db"), 0o644), os.Symlink(at("none"), at("nowhere.db")),
		os.Symlink("a.db", at("link.db"))); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		options Options
		want    []string
		err     string
	}{
		{Options{Patterns: []string{at("*.db*")}}, []string{at("a.db"), at("b.db")}, ""},
		{Options{Files: []string{at("link.db"), at("empty.db")}}, []string{at("a.db"), at("empty.db")}, ""},
		{Options{Files: []string{at("b.db")}, Patterns: []string{at("a*"), at("none*")}}, []string{at("a.db"), at("b.db")}, ""},
		{Options{Patterns: []string{at("none*")}}, nil, "no database matches"},
		{Options{Patterns: []string{"["}}, nil, "bad pattern"},
		{Options{Files: []string{at("none")}}, nil, "cannot find the database"},
	} {
		got, err := find(test.options)
		if !reflect.DeepEqual(got, test.want) || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%+v: %q, %v", test.options, got, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	good, text, hot := put(t, filepath.Join(dir, "good"), blank(1)), put(t, filepath.Join(dir, "text"), []byte("hello")), put(t, filepath.Join(dir, "hot"), blank(1))
	put(t, hot+"-journal", []byte("\xd9\xd5"))
	for _, test := range []struct {
		path, volume, want string
	}{
		{text, dir, "text is not an SQLite database"},
		{hot, dir, "hot has a journal that nobody has rolled back yet"},
		{good, "/proc", "is on none of the set's volumes (/proc)"},
		{filepath.Join(dir, "none"), dir, "no such file"},
		{dir, dir, "is a directory"},
	} {
		w := newWriter(t, Options{Files: []string{test.path}})
		if _, err := w.Prepare(t.Context(), request(test.volume)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.path, err, test.want)
		}
		if _, err := w.Freeze(t.Context(), request(test.volume)); err == nil {
			t.Errorf("%s: frozen without having been prepared", test.path)
		}
	}
	if _, err := New(Options{}); err == nil {
		t.Error("no database was accepted")
	}
}

// A hold that fails half way lets go of what it has.
func TestHalfHeld(t *testing.T) {
	dir := t.TempDir()
	a, b := put(t, filepath.Join(dir, "a"), blank(1)), put(t, filepath.Join(dir, "b"), blank(1))
	w := newWriter(t, Options{Files: []string{a, b}})
	if _, err := w.Prepare(t.Context(), request(dir)); err != nil {
		t.Fatal(err)
	}
	first, _ := held(t, b)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := w.Freeze(ctx, request(dir)); !errors.Is(err, errBusy) {
		t.Errorf("Freeze() = %v", err)
	}
	held(t, a)
	if _, err := w.Thaw(t.Context(), request("")); err != nil {
		t.Errorf("the thaw of what was never held: %v", err)
	}
	if err := first.Abort(t.Context(), request("")); err != nil {
		t.Error(err)
	}
	held(t, b)
}
