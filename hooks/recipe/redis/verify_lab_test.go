//go:build lab

package redis

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/hooks"
)

// What a restart would load is read by the server's own checkers, which find what is damaged or missing.
func TestVerify(t *testing.T) {
	for kind, settings := range map[string][]string{
		"check-aof": {"appendonly yes", "appendfilename it.aof", "appenddirname there"},
		"check-rdb": {"dbfilename it.rdb"},
	} {
		t.Run(kind, func(t *testing.T) {
			i := start(t, settings...)
			for range 200 {
				i.must("INCR", "n")
			}
			w := i.recipe(Options{})
			prepared, _ := i.held(w)
			dir := i.copied(settings...).dir // whose server only runs to its end
			if _, err := i.thaw(w); err != nil {
				t.Error(err)
			}
			prepared["directory"] = dir
			verify := func() (map[string]any, error) {
				return w.Verify(t.Context(), hooks.Request{Event: hooks.Event{Prepared: prepared}})
			}
			data, err := verify()
			if err != nil || data["checks"].([]string)[0] != kind {
				t.Fatalf("Verify() = %v, %v", data, err)
			}
			damaged := data["file"].(string)
			if kind == "check-aof" {
				damaged = filepath.Join(dir, "there", "it.aof.1.incr.aof")
			}
			b, err := os.ReadFile(damaged)
			if err != nil {
				t.Fatal(err)
			}
			copy(b[len(b)/2:], "damage damage damage damage")
			if err := os.WriteFile(damaged, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := verify(); err == nil || !strings.Contains(err.Error(), "redis-"+kind) {
				t.Errorf("damaged: %v", err)
			} else {
				t.Log(err)
			}
			if err := os.Remove(damaged); err != nil {
				t.Fatal(err)
			}
			if _, err := verify(); err == nil {
				t.Error("missing, and verified")
			}
		})
	}
}
