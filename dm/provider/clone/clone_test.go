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
	snaps, err := (&Provider{Store: s}).Snapshots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return snaps
}

func TestStates(t *testing.T) {
	s, r := made(t)
	p := &Provider{Store: s}
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
			got, err := s.Load()
			if err != nil || len(got) != 1 || got[0].State != Damaged {
				t.Errorf("got %+v, %v", got, err)
			}
			lost(t, s, r)
		})
	}
}

// lost checks that a clone is listed as lost, and can be deleted all the same, with all that is of it and no more.
func lost(t *testing.T, s Store, r Record) {
	t.Helper()
	p := &Provider{Store: s}
	snaps, err := p.Snapshots(t.Context())
	if err != nil || len(snaps) != 1 || snaps[0].Set.ID != r.ID || snaps[0].Armed || !strings.Contains(snaps[0].Invalid, "cannot read "+filepath.Join(r.Dir(), recordName)) {
		t.Fatalf("got %+v, %v", snaps, err)
	}
	mine := filepath.Join(r.Dir(), "mine.img")
	if err := os.WriteFile(mine, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Mark(t.Context(), snaps), p.Delete(t.Context(), snaps)); !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("deletion of a directory that holds more: %v", err)
	}
	if left, err := os.ReadDir(r.Dir()); err != nil || len(left) != 1 || left[0].Name() != "mine.img" {
		t.Errorf("left: %v, %v", left, err)
	}
	if snaps := list(t, s); len(snaps) != 0 {
		t.Errorf("afterwards: %+v", snaps)
	}
}

// A clone whose record is lost is known by its images; what is no clone is not listed, and told of if it looks like one.
func TestLostRecords(t *testing.T) {
	s, r := made(t)
	record := filepath.Join(r.Dir(), recordName)
	if err := os.Remove(record); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]Store{"the index": {Index: s.Index}, "a known directory": {Index: "/nonexistent", Known: s.Known}} {
		if got, err := s.Load(); err != nil || len(got) != 1 || got[0].State != Damaged || got[0].ID != r.ID {
			t.Errorf("by %s: got %+v, %v", name, got, err)
		}
	}
	lost(t, s, r)

	s, r = made(t)
	s.Index = "/nonexistent"
	for name, text := range map[string]string{"nothing": "", "theirs": "{"} {
		dir := filepath.Join(filepath.Dir(r.Dir()), name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if text == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, recordName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := &Provider{Store: s}
	snaps, err := p.Snapshots(t.Context())
	if problems := p.Problems(); err != nil || len(snaps) != 0 || len(problems) != 1 || !strings.Contains(problems[0], "/theirs: ") {
		t.Errorf("got %+v, %v, problems %q", snaps, err, problems)
	}
}

// If nobody knows which clones there are, it is told as that.
func TestUnreadableIndex(t *testing.T) {
	s, _ := made(t)
	s.Index = filepath.Join(s.Known[0], "20261120T114653_0002", recordName) // no directory
	if snaps, err := (&Provider{Store: s}).Snapshots(t.Context()); !errors.Is(err, unix.ENOTDIR) || snaps != nil {
		t.Errorf("got %+v, %v", snaps, err)
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
	if _, err := (&Provider{Store: s}).Expose(t.Context(), provider.Snapshot{Name: r.Image(0)}); !errors.Is(err, unix.ELOOP) {
		t.Errorf("exposed through a link: %v", err)
	}
	record := filepath.Join(r.Dir(), recordName)
	if err := errors.Join(os.Rename(record, victim), os.Symlink(victim, record)); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Load(); err != nil || len(got) != 1 || !errors.Is(got[0].unread, unix.ELOOP) {
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
