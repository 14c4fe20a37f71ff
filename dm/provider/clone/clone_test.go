package clone

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/config/ownership"
	"github.com/fermata-project/fermata/dm/provider"
)

// made makes a store with one complete clone of two volumes.
func made(t *testing.T) (Store, Record) {
	t.Helper()
	target := t.TempDir()
	s := Store{Index: filepath.Join(t.TempDir(), "index"), Known: []string{target, "/nonexistent"}}
	r, err := s.Create(target, Record{ID: "20261120T114653_0002", Source: "20261120T114653_0001", Policy: "p", Volumes: []Volume{
		{File: "0.img", Origin: "vg/a", MountPoint: "/a", FSType: "ext4", Size: 3},
		{File: "1.img", Origin: "vg/b", Size: 3},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Volumes {
		if err := os.WriteFile(r.Image(i), []byte("abc"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s, r
}

func list(t *testing.T, s Store) []provider.Snapshot {
	t.Helper()
	snaps, err := (&Provider{s}).Snapshots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return snaps
}

func TestStates(t *testing.T) {
	s, r := made(t)
	p := &Provider{s}
	if snaps := list(t, s); len(snaps) != 0 {
		t.Errorf("a copy that is not complete is listed: %+v", snaps)
	}
	r.State = Complete
	if err := s.Save(r); err != nil {
		t.Fatal(err)
	}
	snaps := list(t, s)
	if len(snaps) != 2 || snaps[0].Set.Members != 2 || snaps[0].Armed || snaps[1].Name != r.Image(1) || snaps[0].MountPoint != "/a" {
		t.Fatalf("got %+v", snaps)
	}
	if err := os.Truncate(r.Image(0), 2); err != nil {
		t.Fatal(err)
	}
	if got := list(t, s)[0].Invalid; got != "its image has 2 bytes and had 3" {
		t.Errorf("got %q", got)
	}
	if err := os.Remove(r.Image(0)); err != nil {
		t.Fatal(err)
	}
	if left := list(t, s); len(left) != 1 {
		t.Errorf("got %+v", left)
	}
	if err := p.Mark(t.Context(), snaps); err != nil {
		t.Fatal(err)
	}
	snaps = list(t, s)
	if len(snaps) != 2 || !snaps[0].Armed || !snaps[1].Armed {
		t.Errorf("a marked clone: %+v", snaps)
	}
	if err := p.Delete(t.Context(), snaps); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(r.Dir()); !os.IsNotExist(err) {
		t.Errorf("left behind: %v", err)
	}
	if _, err := os.Lstat(s.link(r.ID)); !os.IsNotExist(err) {
		t.Errorf("left behind: %v", err)
	}
}

// Without its index a clone is found in a directory that a policy names, and without that by the index; once.
func TestFound(t *testing.T) {
	s, _ := made(t)
	for name, s := range map[string]Store{"both": s, "the index": {Index: s.Index}, "a known directory": {Index: "/nonexistent", Known: s.Known}} {
		if got, err := s.Load(); err != nil || len(got) != 1 {
			t.Errorf("by %s: got %+v, %v", name, got, err)
		}
	}
}

// A record may come from a disk of elsewhere.
func TestBadRecords(t *testing.T) {
	for name, change := range map[string]func(r string) string{
		"another place":   func(r string) string { return strings.Replace(r, "0.img", "../../0.img", 1) },
		"no image":        func(r string) string { return strings.Replace(r, "0.img", "0.sum", 1) },
		"another id":      func(r string) string { return strings.Replace(r, "_0002", "_0003", 1) },
		"another version": func(r string) string { return strings.Replace(r, `"version": 1`, `"version": 2`, 1) },
		"no source": func(r string) string {
			return strings.Replace(r, `"source": "20261120T114653_0001"`, `"source": ""`, 1)
		},
		"no set's id": func(r string) string {
			return strings.Replace(r, `"source": "20261120T114653_0001"`, `"source": "../x"`, 1)
		},
		"no volumes": func(string) string { return `{"version":1,"id":"20261120T114653_0002","source":"x"}` },
		"no JSON":    func(string) string { return "{" },
	} {
		t.Run(name, func(t *testing.T) {
			s, r := made(t)
			file := filepath.Join(r.Dir(), recordName)
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(change(string(b))), 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := s.Load(); err == nil || len(got) != 0 {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// A directory that others can write to is no place for clones, and what is found in one is not believed.
func TestUntrustedDirectory(t *testing.T) {
	s, r := made(t)
	s.Trust = func(dir string) error {
		if strings.HasPrefix(r.Dir(), dir) {
			return ownership.ErrUntrusted
		}
		return nil
	}
	other := filepath.Join(filepath.Dir(r.Dir()), "other")
	if _, err := s.Create(filepath.Dir(r.Dir()), Record{ID: "other", Source: "source"}); !errors.Is(err, ownership.ErrUntrusted) {
		t.Errorf("Create: %v", err)
	}
	if _, err := os.Lstat(other); !os.IsNotExist(err) {
		t.Errorf("left behind: %v", err)
	}
	if got, err := s.Load(); !errors.Is(err, ownership.ErrUntrusted) || len(got) != 0 {
		t.Errorf("Load: %+v, %v", got, err)
	}
}

// What lies where a file of a clone should be is not followed.
func TestLinks(t *testing.T) {
	c, data := source(t)
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{c.Image, sumsOf(c.Image)} {
		if err := os.Symlink(victim, name); err != nil {
			t.Fatal(err)
		}
		if err := c.Run(t.Context()); !errors.Is(err, unix.ELOOP) {
			t.Errorf("copied through a link: %v", err)
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mkfifo(name, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := c.Run(t.Context()); err == nil {
			t.Error("copied into a pipe")
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
		t.Errorf("got %q, %v", b, err)
	}
	same(t, c, data)

	s, r := made(t)
	r.State = Complete
	if err := errors.Join(s.Save(r), os.Remove(r.Image(0)), os.Symlink(victim, r.Image(0))); err != nil {
		t.Fatal(err)
	}
	if _, err := (&Provider{s}).Expose(t.Context(), provider.Snapshot{Name: r.Image(0)}); !errors.Is(err, unix.ELOOP) {
		t.Errorf("exposed through a link: %v", err)
	}
	record := filepath.Join(r.Dir(), recordName)
	if err := errors.Join(os.Rename(record, victim), os.Symlink(victim, record)); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Load(); !errors.Is(err, unix.ELOOP) || len(got) != 0 {
		t.Errorf("a record through a link: %+v, %v", got, err)
	}
}

func TestCreateLeavesNothing(t *testing.T) {
	s, r := made(t)
	if _, err := s.Create(filepath.Dir(r.Dir()), r); err == nil { // it exists
		t.Error("a clone was made over another")
	}
	if got, err := s.Load(); err != nil || len(got) != 1 {
		t.Errorf("the other one: %+v, %v", got, err)
	}
	for _, dir := range []string{"relative", "/nonexistent/x"} {
		if _, err := s.Create(dir, Record{ID: "x"}); err == nil {
			t.Errorf("a clone was made in %s", dir)
		}
	}
}
