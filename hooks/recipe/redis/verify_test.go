package redis

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/hooks"
)

// Of two that are installed, the server's own checker is taken.
func TestChecker(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"redis-check-rdb", "valkey-check-rdb"} {
		script := "#!/bin/sh\necho " + name + "; exit 1\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "dump.rdb"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, server := range []string{"redis", "valkey"} {
		w := &writer{options: Options{BinDirectory: dir}}
		_, err := w.Verify(t.Context(), hooks.Request{Event: hooks.Event{Prepared: map[string]any{"server": server, "directory": dir, "rdb_file": "dump.rdb"}}})
		if err == nil || !strings.Contains(err.Error(), "it said: "+server+"-check-rdb") {
			t.Errorf("of %s: %v", server, err)
		}
	}
}

func TestOpenImage(t *testing.T) {
	dir := t.TempDir()
	touch := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open := func(o Options, prepared map[string]any, file, check, refusal string) {
		t.Helper()
		i, err := openImage(o, hooks.Request{Event: hooks.Event{Prepared: prepared}})
		if refusal != "" {
			if err == nil || !strings.Contains(err.Error(), refusal) {
				t.Errorf("got %v, want %q", err, refusal)
			}
			return
		}
		if err != nil || i.file != filepath.Join(dir, file) || i.check != check {
			t.Errorf("got %+v, %v, want %s %s", i, err, check, file)
		}
	}
	open(Options{}, nil, "", "", "name it with --directory")
	open(Options{Directory: dir + "/none"}, nil, "", "", "cannot find")
	open(Options{Directory: dir}, nil, "", "", "has neither")
	touch("dump.rdb")
	open(Options{Directory: dir}, nil, "dump.rdb", "check-rdb", "")
	touch("appendonly.aof")
	open(Options{Directory: dir}, nil, "appendonly.aof", "check-aof", "")
	open(Options{Directory: "/"}, map[string]any{"directory": dir, "rdb_file": "x.rdb"}, "x.rdb", "check-rdb", "")
	open(Options{}, map[string]any{"directory": dir, "aof_file": "a/x.aof.manifest"}, "a/x.aof.manifest", "check-aof", "")
}
