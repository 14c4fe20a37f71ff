//go:build lab

package hooks_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/hooks"
)

// The example in Python holds a real database: while it holds nobody can write.
func TestDocumentedPythonSession(t *testing.T) {
	db := filepath.Join(t.TempDir(), "shop.db")
	sql := func(statement string) error { return exec.Command("sqlite3", db, statement).Run() }
	if err := sql("CREATE TABLE t (n); PRAGMA journal_mode = WAL"); err != nil {
		t.Fatal(err)
	}
	spec := hooks.Spec{Name: "shop", Session: []string{documented(t, "python", "sqlite-writer"), db}, Timeouts: quick}
	w, ctx, ev := newWriter(t, spec), context.Background(), unique(t)
	if a, err := w.Prepare(ctx, ev); err != nil || a.Data["journal_mode"] != "wal" {
		t.Fatalf("Prepare() = %v, %v", a, err)
	}
	if err := sql("INSERT INTO t VALUES (1)"); err != nil {
		t.Errorf("before freeze: %v", err)
	}
	if _, err := w.Freeze(ctx, ev); err != nil {
		t.Fatal(err)
	}
	if err := sql("INSERT INTO t VALUES (2)"); err == nil {
		t.Error("somebody could write during the hold")
	}
	if _, err := w.Thaw(ctx, ev); err != nil {
		t.Error(err)
	}
	if err := sql("INSERT INTO t VALUES (3)"); err != nil {
		t.Errorf("after thaw: %v", err)
	}
	if _, err := w.Post(ctx, ev); err != nil {
		t.Error(err)
	}

	spec.Session = []string{spec.Session[0], filepath.Join(t.TempDir(), "none.db")}
	c := drive(newWriter(t, spec), unique(t), time.Millisecond)
	if c.prepare == nil || !strings.Contains(c.prepare.Error(), "unable to open database file") {
		t.Errorf("without a database: %v", c.prepare)
	}
}
