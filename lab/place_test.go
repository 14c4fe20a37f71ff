package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOwnDir(t *testing.T) {
	parent := t.TempDir()
	fresh, loose, link := filepath.Join(parent, "fresh"), filepath.Join(parent, "loose"), filepath.Join(parent, "link")
	if err := os.Mkdir(loose, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(loose, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(parent, link); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		dir  string
		need int64
		ok   bool
	}{{fresh, 1, true}, {fresh, 1, true}, {fresh, 1 << 60, false}, {loose, 1, false}, {link, 1, false}, {filepath.Join(parent, "no", "such"), 1, false}} {
		if err := ownDir(tt.dir, tt.need); (err == nil) != tt.ok {
			t.Errorf("%s for %d bytes: got %v", filepath.Base(tt.dir), tt.need, err)
		}
	}
}
