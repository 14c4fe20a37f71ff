package hooks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/fermata-project/fermata/config/ownership"
	"github.com/fermata-project/fermata/hooks/child"
)

func TestLookup(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	write := func(path string, mode fs.FileMode) {
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(first, "plain"), 0o644)
	write(filepath.Join(second, "tool"), 0o755)
	for _, test := range []struct {
		name, want string
		is         error
	}{
		{"tool", filepath.Join(second, "tool"), nil},
		{filepath.Join(second, "tool"), filepath.Join(second, "tool"), nil},
		{"plain", "", fs.ErrPermission},
		{"missing", "", fs.ErrNotExist},
		{filepath.Join(first, "missing"), "", fs.ErrNotExist},
		{first, "", fs.ErrPermission},
	} {
		got, err := lookup(test.name, []string{first, second})
		if test.is == nil && (err != nil || got != test.want) || test.is != nil && !errors.Is(err, test.is) {
			t.Errorf("lookup(%q) = %q, %v", test.name, got, err)
		}
	}
	for _, name := range []string{"./tool", "a/b", "../tool", ""} {
		if _, err := lookup(name, []string{second}); err == nil {
			t.Errorf("lookup(%q) found something", name)
		}
	}
}

func mode(t *testing.T, path string, m fs.FileMode) {
	if err := os.Chmod(path, m); err != nil {
		t.Fatal(err)
	}
}

// New refuses what is not to be trusted when root would run it.
func TestNewChecksOwnership(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	mode(t, path, 0o757)
	_, err := New(Spec{Name: "w", Session: []string{path}})
	if root := os.Geteuid() == 0; errors.Is(err, ownership.ErrUntrusted) != root {
		t.Errorf("New() = %v as root: %t", err, root)
	}
}

// A program runs as its user with that user's groups; only root can arrange it.
func TestIdentity(t *testing.T) {
	who, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	groups, err := who.GroupIds()
	if err != nil {
		t.Fatal(err)
	}
	name := who.Username
	if os.Geteuid() == 0 {
		name = "nobody"
	} else if _, err := child.Identify("root", ""); !errors.Is(err, syscall.EPERM) {
		t.Errorf("Identify(root) = %v", err)
	}
	path := filepath.Join(t.TempDir(), "hook")
	script := `read -r x; echo "ok {\"user\":\"$(id -un)\",\"groups\":\"$(id -G)\",\"name\":\"$USER\"}"; read -r x`
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(path); dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o001 == 0 {
			mode(t, dir, 0o755) // nobody has to get in
		}
	}
	w, err := New(Spec{Name: "w", User: name, Session: []string{"sh", path}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	a, err := w.Prepare(context.Background(), Event{})
	if err != nil {
		t.Fatal(err)
	}
	if a.Data["user"] != name || a.Data["name"] != name {
		t.Errorf("it ran as %v", a.Data)
	}
	if os.Geteuid() != 0 && len(strings.Fields(fmt.Sprint(a.Data["groups"]))) != len(groups) {
		t.Errorf("its groups are %v, want %v", a.Data["groups"], groups)
	}
	for _, bad := range [][2]string{{"no-such-user", ""}, {"", "no-such-group"}} {
		if _, err := child.Identify(bad[0], bad[1]); err == nil {
			t.Errorf("Identify(%q, %q) found somebody", bad[0], bad[1])
		}
	}
}

func TestSpecValidation(t *testing.T) {
	good := func() Spec { return Spec{Name: "w", Type: TypeNull} }
	for _, test := range []struct {
		name   string
		change func(*Spec)
		want   string // part of the error; empty: fine
	}{
		{"null", func(*Spec) {}, ""},
		{"no name", func(s *Spec) { s.Name = "" }, "bad name"},
		{"strange name", func(s *Spec) { s.Name = "a b" }, "bad name"},
		{"level", func(s *Spec) { s.Level = "middle" }, "unknown level"},
		{"on_failure", func(s *Spec) { s.OnFailure = "ignore" }, "unknown on_failure"},
		{"type", func(s *Spec) { s.Type = "magic" }, "unknown type"},
		{"time limit", func(s *Spec) { s.Timeouts.Thaw = maxTimeout + 1 }, "time limit of thaw"},
		{"negative time limit", func(s *Spec) { s.Timeouts.Post = -1 }, "time limit of post"},
		{"own variable", func(s *Spec) { s.Env = map[string]string{"FERMATA_SET": "x"} }, "bad environment"},
		{"strange variable", func(s *Spec) { s.Env = map[string]string{"A=B": "x"} }, "bad environment"},
		{"null with a program", func(s *Spec) { s.Session = []string{"sh"} }, "runs no program"},
		{"exec with nothing", func(s *Spec) { s.Type = TypeExec }, "exactly one"},
		{"exec with both", func(s *Spec) {
			s.Type, s.Session, s.Commands = TypeExec, []string{"sh"}, map[Phase][]string{PhaseFreeze: {"sh"}}
		}, "exactly one"},
		{"no thaw", func(s *Spec) { s.Type, s.Commands = TypeExec, map[Phase][]string{PhaseFreeze: {"sh"}} }, "one for thaw"},
		{"strange phase", func(s *Spec) {
			s.Type, s.Commands = TypeExec, map[Phase][]string{PhaseFreeze: {"sh"}, PhaseThaw: {"sh"}, "rest": {"sh"}}
		}, "unknown phase"},
		{"empty command", func(s *Spec) {
			s.Type, s.Commands = TypeExec, map[Phase][]string{PhaseFreeze: {"sh"}, PhaseThaw: {"sh"}, PhasePost: {}}
		}, "is empty"},
		{"commands", func(s *Spec) {
			s.Type, s.Commands = TypeExec, map[Phase][]string{PhaseFreeze: {"sh"}, PhaseThaw: {"sh"}}
		}, ""},
		{"test with commands", func(s *Spec) { s.Type, s.Commands = TypeTest, map[Phase][]string{PhaseFreeze: {"sh"}} }, "has no commands"},
		{"missing program", func(s *Spec) { s.Type, s.Session = TypeExec, []string{"fermata-no-such-program"} }, "no program"},
		{"zero byte", func(s *Spec) { s.Type, s.Session = TypeExec, []string{"sh", "a\x00b"} }, "zero byte"},
		{"user", func(s *Spec) { s.Type, s.Session, s.User = TypeExec, []string{"sh"}, "no-such-user" }, "no-such-user"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := good()
			test.change(&s)
			_, err := New(s)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("New() = %v, want %q", err, test.want)
			}
		})
	}
}

func TestSpecDefaults(t *testing.T) {
	w, err := New(Spec{Name: "w", Type: TypeNull, Timeouts: Timeouts{Freeze: 1e9}})
	if err != nil {
		t.Fatal(err)
	}
	s := w.Spec()
	want := DefaultTimeouts
	want.Freeze = 1e9
	if s.Level != LevelBackEnd || s.OnFailure != OnFailureAbort || s.Timeouts != want {
		t.Errorf("defaults: %+v", s)
	}
}
