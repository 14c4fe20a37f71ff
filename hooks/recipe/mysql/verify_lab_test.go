//go:build lab

package mysql

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

// image is the request about a copy of the server's files.
func (d *database) image(phase hooks.Phase, prepared map[string]any, copied *database) hooks.Request {
	r := d.request(phase)
	r.Prepared = map[string]any{}
	for name, v := range prepared {
		if s, ok := v.(string); ok {
			v = strings.ReplaceAll(s, d.data, copied.data)
		}
		r.Prepared[name] = v
	}
	return r
}

// An image of a busy server is verified, with tables of every kind; a page that is overwritten is found, and so is a data
// dictionary that is. Nothing is left that runs or lies about.
func TestVerify(t *testing.T) {
	d := shared
	d.tables(t)
	d.must(t, "USE shop", "INSERT INTO shop.i SELECT seq FROM seq_1_to_50000", "INSERT INTO shop.m SELECT seq FROM seq_1_to_1000", "CREATE SEQUENCE shop.s",
		"CREATE TABLE shop.`a``b` (n INT) ENGINE=InnoDB")
	r := d.recipe(t, Options{})
	prepared, _ := d.held(t, r)
	copied := d.copied(t)
	if _, err := d.phase(r, hooks.PhaseThaw); err != nil {
		t.Fatal(err)
	}
	verify := func() (map[string]any, error) {
		data, err := r.(recipe.Verifier).Verify(t.Context(), d.image(hooks.PhaseVerify, prepared, copied))
		if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "fermata-mysql*")); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
		if err := unlocked(filepath.Join(copied.data, "ibdata1")); err != nil {
			t.Error(err)
		}
		return data, err
	}
	if data, err := verify(); err != nil || data["tables"].(int) < 20 || fmt.Sprint(data["checks"]) != "[recovery CHECK TABLE]" {
		t.Fatalf("Verify() = %v, %v", data, err)
	}
	overwrite(t, filepath.Join(copied.data, "shop/i.ibd"), 30*16<<10)
	overwrite(t, filepath.Join(copied.data, "shop/m.MYD"), 0)
	if _, err := verify(); err == nil || !strings.Contains(err.Error(), "table `shop`.`i`") {
		t.Errorf("a page of a table was overwritten: %v", err)
	} else {
		t.Log(err)
	}
	for page := range int64(8) {
		overwrite(t, filepath.Join(copied.data, "ibdata1"), page*16<<10)
	}
	if _, err := verify(); err == nil || !strings.Contains(err.Error(), "the server did not recover") || !strings.Contains(err.Error(), "ERROR") {
		t.Errorf("the dictionary was overwritten: %v", err)
	} else {
		t.Log(err)
	}
}

// overwrite puts noise into a file, at most as much as a page has.
func overwrite(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	noise := make([]byte, 4<<10)
	_, _ = rand.Read(noise)
	if _, err := f.WriteAt(noise, at); err != nil {
		t.Fatal(err)
	}
}

// The image is one of a server that was shut down, then: its log has nothing to recover.
func TestRecover(t *testing.T) {
	d := shared
	d.tables(t)
	d.must(t, "USE shop", "INSERT INTO shop.i SELECT seq FROM seq_1_to_1000")
	r := d.recipe(t, Options{})
	prepared, _ := d.held(t, r)
	copied := d.copied(t)
	if _, err := d.phase(r, hooks.PhaseThaw); err != nil {
		t.Fatal(err)
	}
	if data, err := r.(recipe.Recoverer).Recover(t.Context(), d.image(hooks.PhaseRecover, prepared, copied)); err != nil || data["recovered"] != true {
		t.Fatalf("Recover() = %v, %v", data, err)
	}
	if err := copied.start(); err != nil {
		t.Fatal(err)
	}
	defer copied.kill()
	if rows := copied.must(t, "SELECT COUNT(*) AS n FROM shop.i"); rows[0]["n"] != "1000" {
		t.Errorf("it has %s rows", rows[0]["n"])
	}
	log := copied.process.Stderr.(*bytes.Buffer).String()
	if strings.Contains(log, "crash recovery") || !strings.Contains(log, "ready for connections") {
		t.Errorf("the server on the image said %s", log)
	}
}
