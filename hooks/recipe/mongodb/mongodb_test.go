package mongodb

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

func (f *fake) writer(t *testing.T, o Options) *writer {
	t.Helper()
	o.Address = f.path
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r.(*writer)
}

func (f *fake) set() hooks.Request {
	return hooks.Request{Timeout: time.Minute, Event: hooks.Event{Set: "s", Volumes: []string{f.dbPath}}}
}

func (f *fake) held(t *testing.T, w *writer) {
	t.Helper()
	if _, err := w.Prepare(t.Context(), f.set()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Freeze(t.Context(), f.set()); err != nil {
		t.Fatal(err)
	}
}

const status = "serverStatus locks=0 metrics=0 repl=0 wiredTiger=0"

// The exact commands, without a lock and with one.
func TestCommands(t *testing.T) {
	for _, lock := range []bool{false, true} {
		f := start(t)
		w := f.writer(t, Options{Lock: lock})
		data, err := w.Prepare(t.Context(), f.set())
		if err != nil || data["storage_engine"] != "wiredTiger" || data["replica_set"] != "rs0" || data["server_version"] != "7.0.2" || data["locks"] != lock {
			t.Fatalf("Prepare() = %v, %v", data, err)
		}
		want := []string{"hello", status, "getCmdLineOpts", "fsync"}
		if lock {
			want = []string{"hello", status, "getCmdLineOpts", "currentOp desc=fermata", "fsync"}
		}
		if got := f.taken(); !reflect.DeepEqual(got, want) {
			t.Errorf("prepare: %q", got)
		}
		if _, err := w.Freeze(t.Context(), f.set()); err != nil {
			t.Fatal(err)
		}
		want = []string{"hello", status}
		if lock {
			want = append(want, "currentOp desc=fermata", "fsync comment=fermata lock=true")
		}
		if got := f.taken(); !reflect.DeepEqual(got, want) {
			t.Errorf("freeze: %q", got)
		}
		if _, err := w.Thaw(t.Context(), f.set()); err != nil {
			t.Error(err)
		}
		want = []string{"hello", status}
		if lock {
			want = append(want, "fsyncUnlock")
		}
		if got := f.taken(); !reflect.DeepEqual(got, want) || f.locked() != 0 {
			t.Errorf("thaw: %q, %d locks", got, f.locked())
		}
	}
}

func TestHoldLost(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(f *fake)
		left  int64 // locks that are not ours
	}{
		"connection cut":         {func(f *fake) { f.cut() }, 0},
		"restart":                {func(f *fake) { f.with(func() { f.pid, f.locks = 43, 0 }); f.cut() }, 0},
		"restart behind a proxy": {func(f *fake) { f.with(func() { f.pid, f.locks = 43, 0 }) }, 0},
		"unlocked by another":    {func(f *fake) { f.with(func() { f.locks = 0 }) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t)
			w := f.writer(t, Options{Lock: true})
			f.held(t, w)
			test.spoil(f)
			if _, err := w.Thaw(t.Context(), f.set()); !errors.Is(err, hooks.ErrHoldLost) {
				t.Errorf("Thaw() = %v", err)
			}
			if f.locked() != test.left {
				t.Errorf("%d locks are left", f.locked())
			}
		})
	}
}

// However it ends, exactly one lock is given back, and nobody else's.
func TestUndo(t *testing.T) {
	for name, end := range map[string]func(*writer, hooks.Request) error{
		"abort": func(w *writer, r hooks.Request) error { return w.Abort(context.Background(), r) },
		"close": func(w *writer, _ hooks.Request) error { return w.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t)
			w := f.writer(t, Options{Lock: true})
			f.held(t, w)
			f.with(func() { f.locks++ }) // somebody else comes
			if err := errors.Join(end(w, f.set()), w.Close()); err != nil {
				t.Error(err)
			}
			if f.locked() != 1 {
				t.Errorf("%d locks", f.locked())
			}
		})
	}
}

// A lock that comes after the refusal is given back.
func TestLateLock(t *testing.T) {
	f := start(t)
	w := f.writer(t, Options{Lock: true})
	if _, err := w.Prepare(t.Context(), f.set()); err != nil {
		t.Fatal(err)
	}
	f.with(func() { f.slow = 150 * time.Millisecond })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := w.Freeze(ctx, f.set()); err == nil || !strings.Contains(err.Error(), "cannot lock the server") {
		t.Errorf("Freeze() = %v", err)
	}
	if _, err := w.Thaw(t.Context(), f.set()); err != nil {
		t.Error(err)
	}
	if seen := f.taken(); f.locked() != 0 || seen[len(seen)-1] != "fsyncUnlock" {
		t.Errorf("%d locks, %q", f.locked(), seen)
	}
}

func TestRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		change func(f *fake)
		lock   bool
		want   string // part of the refusal
	}{
		"no right to look":   {func(f *fake) { f.refuse["serverStatus"] = codeUnauthorized }, false, "the user needs the roles clusterMonitor and hostManager"},
		"no right to flush":  {func(f *fake) { f.refuse["fsync"] = codeUnauthorized }, false, "the user needs the roles"},
		"broken":             {func(f *fake) { f.refuse["getCmdLineOpts"] = 1 }, false, "getCmdLineOpts: refused (code 1)"},
		"in memory":          {func(f *fake) { f.engine = "inMemory" }, true, "nothing to capture"},
		"old engine":         {func(f *fake) { f.engine = "mmapv1" }, false, "use --lock"},
		"old engine, locked": {func(f *fake) { f.engine = "mmapv1" }, true, ""},
		"no journal":         {func(f *fake) { f.options = document{{"journal", document{{"enabled", false}}}} }, false, "journal is off"},
		"locked":             {func(f *fake) { f.locks = 2 }, true, "somebody has the server locked"},
		"locked, no matter":  {func(f *fake) { f.locks = 2 }, false, ""},
		"no such folder":     {func(f *fake) { f.dbPath += "/none" }, false, "name it with --directory"},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t)
			set := f.set()
			f.with(func() { test.change(f) })
			before := f.locked()
			w := f.writer(t, Options{Lock: test.lock})
			_, err := w.Prepare(t.Context(), set)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("Prepare() = %v, want %q", err, test.want)
			}
			if err := w.Abort(t.Context(), set); err != nil || f.locked() != before {
				t.Errorf("Abort() = %v, %d locks", err, f.locked())
			}
		})
	}
	f := start(t)
	elsewhere := f.set()
	elsewhere.Volumes = []string{"/proc"}
	if _, err := f.writer(t, Options{}).Prepare(t.Context(), elsewhere); !errors.Is(err, recipe.ErrOutside) {
		t.Errorf("outside the set: %v", err)
	}
	if err := os.Symlink("/proc", filepath.Join(f.dbPath, "journal")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.writer(t, Options{}).Prepare(t.Context(), f.set()); err == nil || !strings.Contains(err.Error(), "the journal /proc is on none") {
		t.Errorf("a journal outside the set: %v", err)
	}
	if _, err := New(Options{User: "u"}); err == nil {
		t.Error("a user without a password was accepted")
	}
}

// Somebody who locks at the same moment keeps his lock, and the set is refused.
func TestTwoLocks(t *testing.T) {
	f := start(t)
	w := f.writer(t, Options{Lock: true})
	if _, err := w.Prepare(t.Context(), f.set()); err != nil {
		t.Fatal(err)
	}
	f.with(func() { f.slow = 100 * time.Millisecond })
	time.AfterFunc(50*time.Millisecond, func() { f.with(func() { f.locks++ }) })
	if _, err := w.Freeze(t.Context(), f.set()); err == nil || !strings.Contains(err.Error(), "it has 2 locks") {
		t.Errorf("Freeze() = %v", err)
	}
	if _, err := w.Thaw(t.Context(), f.set()); err != nil || f.locked() != 1 {
		t.Errorf("Thaw() = %v, %d locks", err, f.locked())
	}
}

func TestInactive(t *testing.T) {
	w := &writer{options: Options{Address: filepath.Join(t.TempDir(), "none")}}
	if _, err := w.Prepare(t.Context(), hooks.Request{}); !recipe.IsInactive(err) {
		t.Errorf("Prepare() = %v", err)
	}
}
