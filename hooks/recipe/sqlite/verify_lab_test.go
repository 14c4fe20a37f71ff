//go:build lab

package sqlite

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/hooks"
)

// Databases of every kind are verified as a crash leaves them; damage is found, whatever hides it from a pattern.
func TestVerify(t *testing.T) {
	dir := t.TempDir()
	var paths []any
	for _, mode := range modes {
		path := filepath.Join(dir, mode+".db")
		c := connect(t, path)
		c.do("PRAGMA journal_mode = "+mode, "CREATE TABLE t (n INTEGER PRIMARY KEY, s TEXT)", "CREATE INDEX i ON t (s)",
			"WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 2000) INSERT INTO t SELECT n, hex(randomblob(20)) FROM c",
			"PRAGMA cache_size = 1", "BEGIN", "UPDATE t SET s = 'x'")
		c.kill()
		paths = append(paths, path)
	}
	if err := os.WriteFile(filepath.Join(dir, "text.db"), []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &writer{options: Options{Patterns: []string{filepath.Join(dir, "*.db")}}}
	verify := func() (map[string]any, error) {
		return w.Verify(t.Context(), hooks.Request{Event: hooks.Event{Prepared: map[string]any{"paths": paths}}})
	}
	if data, err := verify(); err != nil || data["databases"] != len(modes) || data["warnings"] != nil {
		t.Fatalf("Verify() = %v, %v", data, err)
	}
	if c := connect(t, paths[0].(string)); c.do("SELECT count(*) FROM t WHERE s = 'x'") != "0" {
		t.Error("what was not committed is there")
	}
	overwrite := func(name string, at int64) {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt(make([]byte, 600), at); err != nil {
			t.Fatal(err)
		}
	}
	overwrite("DELETE.db", 4096*5)
	overwrite("TRUNCATE.db", 0)
	if err := os.Remove(filepath.Join(dir, "PERSIST.db")); err != nil {
		t.Fatal(err)
	}
	_, err := verify()
	if err == nil || !strings.Contains(err.Error(), "DELETE.db: ") || !strings.Contains(err.Error(), "TRUNCATE.db: ") || strings.Contains(err.Error(), "WAL.db") {
		t.Errorf("damaged: %v", err)
	}
	t.Log(err)
	w.options = Options{Files: []string{filepath.Join(dir, "WAL.db")}}
	paths = []any{paths[2], paths[3]}
	if data, err := verify(); err != nil || !strings.Contains(data["warnings"].([]string)[0], "PERSIST.db") {
		t.Errorf("Verify() = %v, %v", data, err)
	}
}
