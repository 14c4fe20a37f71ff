package lvm

import (
	"os"
	"path/filepath"
	"testing"
)

// fakeLVM makes a runner whose lvm is a shell script. $1 is the command, $3 the configuration.
func fakeLVM(t *testing.T, script string) *LVM {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lvm")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return New(Options{Program: path, LockDir: filepath.Join(t.TempDir(), "lock")})
}
