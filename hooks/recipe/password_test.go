package recipe

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReadPassword(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	for _, test := range []struct {
		content string
		mode    os.FileMode
		want    string
		ok      bool
	}{
		{"se cret\n", 0o600, "se cret", true},
		{"a\nb\r\n", 0o640, "a\nb", true},
		{"x", 0o604, "", false},
		{"x", 0o602, "", false},
		{"", 0o600, "", false},
	} {
		if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, test.mode); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadPassword(path); got != test.want || (err == nil) != test.ok {
			t.Errorf("%+v: %q, %v", test, got, err)
		}
	}
	for _, path := range []string{"/dev/null", filepath.Dir(path), path + "none"} {
		if _, err := ReadPassword(path); err == nil {
			t.Errorf("%s was read", path)
		}
	}
}
