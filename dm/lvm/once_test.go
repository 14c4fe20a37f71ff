package lvm

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Within Once all is read once, unless reading fails; without it, each time.
func TestOnce(t *testing.T) {
	dir := t.TempDir()
	log, broken := filepath.Join(dir, "log"), filepath.Join(dir, "broken")
	l := fakeLVM(t, "echo read >>"+log+"; test ! -e "+broken+` || exit 5; echo '{"report": []}'`)
	reads := func() int {
		b, _ := os.ReadFile(log)
		return strings.Count(string(b), "read")
	}
	report := func(ctx context.Context, vgs ...string) {
		t.Helper()
		if _, err := l.Report(ctx, vgs...); err != nil {
			t.Fatal(err)
		}
	}
	report(t.Context())
	report(t.Context())
	if n := reads(); n != 2 {
		t.Errorf("read %d times, not twice", n)
	}
	ctx := Once(t.Context())
	if err := os.WriteFile(broken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Report(ctx); err == nil {
		t.Error("lvm fails, and nobody says so")
	}
	os.Remove(broken)
	report(ctx)
	report(ctx)
	report(Once(ctx))
	report(ctx, "vg")
	if n := reads(); n != 6 {
		t.Errorf("read %d times, not 6", n)
	}
}
