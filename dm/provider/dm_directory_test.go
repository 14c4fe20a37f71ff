package provider

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/fermata-project/fermata/config/ownership"
)

// What lies above a storage directory matters too: who can rename it puts another in its place.
func TestStorageDirectoryOwnership(t *testing.T) {
	above := t.TempDir()
	d := directory{filepath.Join(above, "storage")}
	if err := os.Mkdir(d.path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.usable(); (err == nil) != (os.Geteuid() == 0) {
		t.Errorf("got %v", err)
	}
	if err := os.Chmod(above, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := d.usable(); !errors.Is(err, ownership.ErrUntrusted) {
		t.Errorf("got %v", err)
	}
}
