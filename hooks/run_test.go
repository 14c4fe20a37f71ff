package hooks

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	script := func(text string) []string { return []string{"/bin/sh", "-c", text, "hook", "an argument"} }
	err := Run(t.Context(), script(`echo lost; echo "$FERMATA_POOL $FERMATA_DETAIL $1" >`+out), map[string]string{"FERMATA_POOL": "vg/pool", "FERMATA_DETAIL": "a b"})
	if err != nil {
		t.Fatal(err)
	}
	if said, _ := os.ReadFile(out); string(said) != "vg/pool a b an argument\n" {
		t.Errorf("it was told %q", said)
	}
	if err := Run(t.Context(), script("echo no room >&2; exit 3"), nil); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("a program that fails: %v", err)
	}
	if err := Run(t.Context(), []string{"/no/such/program"}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := Run(ctx, script("sleep 60"), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one that hangs: %v", err)
	}
}
