package unit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

// fake is a systemd with one unit that can be held, and its cgroup.
type fake struct {
	State
	dir    string
	others map[string]State
	refuse error  // freeze
	ends   func() // instead of a thaw
	thawed int
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{State: State{ID: "app.service", Load: "loaded", Active: "active", Freezer: "running", CanFreeze: true, Group: "/system.slice/app.service", Invocation: "01"},
		dir: t.TempDir(), others: map[string]State{"fermatad.service": {ID: "fermatad.service", Group: "/fermata.slice/fermatad.service"}}}
	if err := os.MkdirAll(filepath.Join(f.dir, f.Group), 0o755); err != nil {
		t.Fatal(err)
	}
	f.kernel(t, "0")
	return f
}

func (f *fake) events() string {
	return filepath.Join(f.dir, "/system.slice/app.service/cgroup.events")
}

func (f *fake) kernel(t *testing.T, frozen string) {
	if err := os.WriteFile(f.events(), []byte("populated 1\nfrozen "+frozen+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (f *fake) unit() *Unit {
	return &Unit{Name: "app.service", Notes: filepath.Join(f.dir, "units"), Cgroups: f.dir, Dial: f.dial}
}

func (f *fake) dial(context.Context) (Systemd, error) { return systemd{f}, nil }

type systemd struct{ *fake }

func (s systemd) State(_ context.Context, unit string) (State, error) {
	switch unit {
	case "app.service", "alias.service":
		return s.fake.State, nil
	}
	return s.others[unit], nil
}

func (s systemd) Freeze(context.Context, string) error {
	if s.refuse != nil {
		return s.refuse
	}
	s.Freezer = "frozen"
	return os.WriteFile(s.events(), []byte("populated 1\nfrozen 1\n"), 0o644)
}

func (s systemd) Thaw(context.Context, string) error {
	if s.ends != nil {
		s.ends()
		s.ends = nil
	}
	if s.ended() {
		return errors.New("Unit is inactive.")
	}
	s.thawed++
	s.Freezer = "running"
	return nil
}

func (s systemd) Close() error { return nil }

func (f *fake) notes(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(f.dir, "units"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return len(entries)
}

func TestHold(t *testing.T) {
	for _, test := range []struct {
		name   string
		happen func(*testing.T, *fake) // while it holds
		lost   string
		thawed int
	}{
		{"nothing", func(*testing.T, *fake) {}, "", 1},
		{"somebody thaws it", func(t *testing.T, f *fake) { f.Freezer = "running"; f.kernel(t, "0") }, "somebody has thawed app.service", 0},
		{"somebody thaws it behind systemd's back", func(t *testing.T, f *fake) { f.kernel(t, "0") }, "somebody has thawed app.service", 1},
		{"systemd thinks otherwise", func(_ *testing.T, f *fake) { f.Freezer = "thawing" }, "systemd says that app.service is thawing", 0},
		{"it is killed", func(t *testing.T, f *fake) { f.Active, f.Group = "failed", ""; f.kernel(t, "0") }, "somebody has thawed app.service", 0},
		{"it is killed just before it is thawed", func(_ *testing.T, f *fake) { f.ends = func() { f.Active = "inactive" } }, "", 0},
		{"it is started anew, and frozen by somebody else", func(_ *testing.T, f *fake) { f.Invocation = "02" }, "was started anew", 0},
	} {
		f := newFake(t)
		u, ctx := f.unit(), t.Context()
		data, err := u.Prepare(ctx, hooks.Request{})
		if err != nil || data["unit"] != "app.service" || data["invocation"] != "01" {
			t.Fatalf("Prepare() = %v, %v", data, err)
		}
		if _, err := u.Freeze(ctx, hooks.Request{}); err != nil || f.Freezer != "frozen" || f.notes(t) != 1 {
			t.Fatalf("Freeze() = %v, it is %s, %d notes", err, f.Freezer, f.notes(t))
		}
		test.happen(t, f)
		_, err = u.Thaw(ctx, hooks.Request{})
		if (err == nil) != (test.lost == "") || err != nil && (!errors.Is(err, hooks.ErrHoldLost) || !strings.Contains(err.Error(), test.lost)) {
			t.Errorf("%s: Thaw() = %v, want %q", test.name, err, test.lost)
		}
		if err := errors.Join(u.Abort(ctx, hooks.Request{}), u.Close()); err != nil {
			t.Error(err)
		}
		if f.thawed != test.thawed || f.notes(t) != 0 {
			t.Errorf("%s: thawed %d times, %d notes", test.name, f.thawed, f.notes(t))
		}
	}
}

func TestWhatIsNotFrozen(t *testing.T) {
	for _, test := range []struct {
		name     string
		change   func(*fake)
		want     string
		inactive bool
	}{
		{"none", func(f *fake) { f.Load = "not-found" }, "there is no unit app.service", false},
		{"stopped", func(f *fake) { f.Active, f.Group = "inactive", "" }, "does not run: it is inactive", true},
		{"cgroups of version 1", func(f *fake) { f.CanFreeze = false }, "takes cgroups of version 2", false},
		{"frozen", func(f *fake) { f.Freezer = "frozen" }, "somebody else has frozen app.service", false},
		{"an alias of the daemon", func(f *fake) { f.ID = "fermatad.service" }, "could not be let go without fermatad.service", false},
		{"what the daemon runs in", func(f *fake) { f.Group = "/fermata.slice" }, "could not be let go without fermatad.service", false},
		{"all", func(f *fake) { f.Group = "/" }, "could not be let go without", false},
	} {
		f := newFake(t)
		test.change(f)
		u := f.unit()
		_, err := u.Prepare(t.Context(), hooks.Request{})
		if err == nil || !strings.Contains(err.Error(), test.want) || recipe.IsInactive(err) != test.inactive {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
		if err := u.Close(); err != nil || f.thawed > 0 {
			t.Errorf("%s: Close() = %v, thawed %d times", test.name, err, f.thawed)
		}
	}
}

// A freeze that failed half way is undone; one that somebody else has begun meanwhile is not touched.
func TestFreezeFails(t *testing.T) {
	f := newFake(t)
	u, ctx := f.unit(), t.Context()
	if _, err := u.Prepare(ctx, hooks.Request{}); err != nil {
		t.Fatal(err)
	}
	f.refuse = errors.New("timed out")
	if _, err := u.Freeze(ctx, hooks.Request{}); !errors.Is(err, f.refuse) {
		t.Fatal(err)
	}
	f.Freezer = "freezing" // it goes on
	if _, err := u.Thaw(ctx, hooks.Request{}); err != nil || f.thawed != 1 || f.notes(t) != 0 {
		t.Errorf("Thaw() = %v, thawed %d times, %d notes", err, f.thawed, f.notes(t))
	}
	f.Freezer = "frozen"
	if _, err := u.Freeze(ctx, hooks.Request{}); err == nil || !strings.Contains(err.Error(), "somebody else") {
		t.Error(err)
	}
	if err := errors.Join(u.Abort(ctx, hooks.Request{}), u.Close()); err != nil || f.thawed != 1 {
		t.Errorf("%v, thawed %d times", err, f.thawed)
	}
}

// What is left frozen by somebody who was killed is thawed, if it is still the same run of the unit.
func TestRelease(t *testing.T) {
	f := newFake(t)
	u, ctx := f.unit(), t.Context()
	if released, err := Release(ctx, u.Notes, nil); err != nil || released != nil {
		t.Errorf("without a note: %v, %v", released, err)
	}
	for _, now := range []string{"frozen", "started anew", "killed"} {
		f.Freezer, f.Invocation, f.thawed = "running", "01", 0
		if _, err := u.Prepare(ctx, hooks.Request{}); err != nil {
			t.Fatal(err)
		}
		if _, err := u.Freeze(ctx, hooks.Request{}); err != nil {
			t.Fatal(err)
		}
		want := 1
		switch now {
		case "started anew":
			f.Invocation, want = "02", 0
		case "killed":
			f.Active, want = "failed", 0
		}
		released, err := Release(ctx, u.Notes, f.dial)
		if err != nil || len(released) != want || f.thawed != want || f.notes(t) != 0 {
			t.Errorf("released %v, %v; thawed %d times, %d notes", released, err, f.thawed, f.notes(t))
		}
		u = f.unit()
	}
}

func TestInside(t *testing.T) {
	for _, test := range []struct {
		group, above string
		want         bool
	}{
		{"/a.slice/b.service", "/a.slice", true}, {"/a.slice", "/a.slice", true}, {"/a.slice", "/", true},
		{"/ab.slice", "/a.slice", false}, {"/a.slice", "/a.slice/b.service", false}, {"", "/a.slice", false},
	} {
		if got := inside(test.group, test.above); got != test.want {
			t.Errorf("inside(%q, %q) = %v", test.group, test.above, got)
		}
	}
	if got := ownGroup("1:name=systemd:/x\n0::/a.slice/b.service\n"); got != "/a.slice/b.service" {
		t.Error(got)
	}
}
