package ownership

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// As root: who may have touched what. As somebody else nothing of one's own is
// to be trusted.
func TestFile(t *testing.T) {
	root := os.Geteuid() == 0
	for _, test := range []struct {
		name string
		make func(t *testing.T, dir string) (path string)
		ok   bool
	}{
		{"fine", func(t *testing.T, dir string) string { return hook(t, dir, 0o755) }, true},
		{"writable by others", func(t *testing.T, dir string) string { return hook(t, dir, 0o757) }, false},
		{"writable by root's group", func(t *testing.T, dir string) string { return hook(t, dir, 0o775) }, true},
		{"writable by a group", func(t *testing.T, dir string) string {
			path := hook(t, dir, 0o775)
			own(t, path, 0, 1)
			return path
		}, false},
		{"of another user", func(t *testing.T, dir string) string {
			path := hook(t, dir, 0o755)
			own(t, path, 1, 0)
			return path
		}, false},
		{"folder of another user", func(t *testing.T, dir string) string {
			path := hook(t, dir, 0o755)
			own(t, dir, 1, 0)
			return path
		}, false},
		{"folder writable", func(t *testing.T, dir string) string {
			mode(t, dir, 0o777)
			return hook(t, dir, 0o755)
		}, false},
		{"folder writable and sticky", func(t *testing.T, dir string) string {
			mode(t, dir, 0o777|fs.ModeSticky)
			return hook(t, dir, 0o755)
		}, false},
		{"sticky further up", func(t *testing.T, dir string) string {
			mode(t, dir, 0o777|fs.ModeSticky)
			return hook(t, subdir(t, dir), 0o755)
		}, true},
		{"writable further up", func(t *testing.T, dir string) string {
			mode(t, dir, 0o777)
			return hook(t, subdir(t, dir), 0o755)
		}, false},
		{"link to a good one", func(t *testing.T, dir string) string {
			return link(t, hook(t, subdir(t, dir), 0o755), filepath.Join(dir, "link"))
		}, true},
		{"relative link", func(t *testing.T, dir string) string {
			hook(t, subdir(t, dir), 0o755)
			return link(t, "./sub/../sub/hook", filepath.Join(dir, "link"))
		}, true},
		{"link to a bad one", func(t *testing.T, dir string) string {
			return link(t, hook(t, subdir(t, dir), 0o757), filepath.Join(dir, "link"))
		}, false},
		{"link through a bad folder", func(t *testing.T, dir string) string {
			good := hook(t, subdir(t, dir), 0o755)
			bad := filepath.Join(dir, "bad")
			if err := os.Mkdir(bad, 0o755); err != nil {
				t.Fatal(err)
			}
			mode(t, bad, 0o777)
			return link(t, link(t, good, filepath.Join(bad, "middle")), filepath.Join(dir, "link"))
		}, false},
		{"link in a circle", func(t *testing.T, dir string) string {
			return link(t, filepath.Join(dir, "link"), filepath.Join(dir, "link"))
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !root && (strings.Contains(test.name, "another user") || strings.Contains(test.name, "by a group")) {
				return // only root can give files away; for others all files are of another user
			}
			path := test.make(t, t.TempDir())
			if err := File(path); (err == nil) != (test.ok && root) {
				t.Errorf("File() = %v", err)
			}
		})
	}
	if err := File("/bin/sh"); err != nil {
		t.Error(err)
	}
	if err := File("sh"); err == nil {
		t.Error("a relative path was accepted")
	}
	if err := File("/no/such"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func hook(t *testing.T, dir string, m fs.FileMode) string {
	path := filepath.Join(dir, "hook")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	mode(t, path, m)
	return path
}

func subdir(t *testing.T, dir string) string {
	sub := filepath.Join(dir, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	return sub
}

func mode(t *testing.T, path string, m fs.FileMode) {
	if err := os.Chmod(path, m); err != nil {
		t.Fatal(err)
	}
}

func own(t *testing.T, path string, uid, gid int) {
	if err := os.Chown(path, uid, gid); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, target, path string) string {
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// fakeInfo is a file as stat(2) would show it.
type fakeInfo struct {
	mode fs.FileMode
	sys  any
}

func (f fakeInfo) Name() string       { return "f" }
func (f fakeInfo) Size() int64        { return 0 }
func (f fakeInfo) Mode() fs.FileMode  { return f.mode }
func (f fakeInfo) ModTime() time.Time { return time.Time{} }
func (f fakeInfo) IsDir() bool        { return f.mode.IsDir() }
func (f fakeInfo) Sys() any           { return f.sys }

func TestEntry(t *testing.T) {
	root, other := &syscall.Stat_t{Uid: 0}, &syscall.Stat_t{Uid: 1000}
	for _, c := range []struct {
		info fakeInfo
		want string
	}{
		{fakeInfo{0o644, root}, ""},
		{fakeInfo{0o600, root}, ""},
		{fakeInfo{fs.ModeDir | 0o755, root}, ""},
		{fakeInfo{0o644, other}, "owned by user 1000, not by root: run chown root on it"},
		{fakeInfo{0o664, root}, ""},
		{fakeInfo{0o664, &syscall.Stat_t{Gid: 100}}, "mode 0664 lets others than root write: run chmod go-w on it"},
		{fakeInfo{0o602, root}, "mode 0602 lets others than root write: run chmod go-w on it"},
		{fakeInfo{fs.ModeDir | fs.ModeSticky | 0o777, root}, "mode 0777 lets others than root write: run chmod go-w on it"},
		{fakeInfo{0o644, nil}, "its owner is not known"},
	} {
		got := ""
		if err := entry(c.info, func([]byte) (int, error) { return 0, unix.ENODATA }); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%v: %q, want %q", c.info, got, c.want)
		}
	}
}

// An access control list gives rights to whom it names, and the mode shows them as those of the group.
func TestAccessControlList(t *testing.T) {
	if os.Geteuid() != 0 {
		return // nothing of one's own is to be trusted anyway
	}
	list := func(mask byte) []byte { // version 2; the owner, user 1, the group, the mask, others
		b := []byte{2, 0, 0, 0}
		for _, e := range [][3]byte{{1, 7, 0xff}, {2, 7, 1}, {4, 5, 0xff}, {0x10, mask, 0xff}, {0x20, 5, 0xff}} {
			id := []byte{e[2], 0, 0, 0}
			if e[2] == 0xff {
				id = []byte{0xff, 0xff, 0xff, 0xff}
			}
			b = append(append(b, e[0], 0, e[1], 0), id...)
		}
		return b
	}
	for mask, ok := range map[byte]bool{7: false, 5: true} {
		dir := t.TempDir()
		file := hook(t, subdir(t, dir), 0o755)
		for _, listed := range []string{file, filepath.Dir(file)} {
			if err := unix.Setxattr(listed, acl, list(mask), 0); err != nil {
				t.Fatal(err)
			}
			if err := File(file); (err == nil) != ok {
				t.Errorf("File() with mask %o on %s = %v", mask, listed, err)
			}
			if err := Directory(filepath.Dir(file)); listed != file && (err == nil) != ok {
				t.Errorf("Directory() with mask %o = %v", mask, err)
			}
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := Opened(f); (err == nil) != (ok || listed != file) || err != nil && !errors.Is(err, ErrUntrusted) {
				t.Errorf("Opened() with mask %o on %s = %v", mask, listed, err)
			}
			f.Close()
			if err := unix.Removexattr(listed, acl); err != nil {
				t.Fatal(err)
			}
			mode(t, listed, 0o755)
		}
	}
}

// A folder: nobody else may make entries in it, or put another in its place.
func TestDirectory(t *testing.T) {
	root := os.Geteuid() == 0
	for _, test := range []struct {
		name string
		make func(t *testing.T, dir string) (path string)
		ok   bool
	}{
		{"fine", func(_ *testing.T, dir string) string { return dir }, true},
		{"with a slash at its end", func(_ *testing.T, dir string) string { return dir + "/" }, true},
		{"in a sticky one", func(t *testing.T, dir string) string {
			mode(t, dir, 0o777|fs.ModeSticky)
			return subdir(t, dir)
		}, true},
		{"sticky", func(t *testing.T, dir string) string {
			mode(t, dir, 0o777|fs.ModeSticky)
			return dir
		}, false},
		{"writable", func(t *testing.T, dir string) string {
			mode(t, dir, 0o777)
			return dir
		}, false},
		{"writable above", func(t *testing.T, dir string) string {
			mode(t, dir, 0o777)
			return subdir(t, dir)
		}, false},
		{"of another user", func(t *testing.T, dir string) string {
			if root {
				own(t, dir, 1, 0)
			}
			return dir
		}, false},
		{"of another user above", func(t *testing.T, dir string) string {
			sub := subdir(t, dir)
			if root {
				own(t, dir, 1, 0)
			}
			return sub
		}, false},
		{"link to a bad one", func(t *testing.T, dir string) string {
			sub := subdir(t, dir)
			mode(t, sub, 0o777)
			return link(t, sub, filepath.Join(dir, "link"))
		}, false},
		{"link to a good one", func(t *testing.T, dir string) string {
			return link(t, subdir(t, dir), filepath.Join(dir, "link"))
		}, true},
		{"a file", func(t *testing.T, dir string) string { return hook(t, dir, 0o755) }, false},
		{"missing", func(_ *testing.T, dir string) string { return filepath.Join(dir, "x") }, false},
		{"relative", func(*testing.T, string) string { return "tmp" }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := Directory(test.make(t, t.TempDir())); (err == nil) != (test.ok && root) {
				t.Errorf("Directory() = %v", err)
			}
		})
	}
}
