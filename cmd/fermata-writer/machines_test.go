package main

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The end of input thaws what is frozen, as when the daemon dies.
func TestScriptsAreThawedAtTheEnd(t *testing.T) {
	dir, log := filepath.Join(t.TempDir(), "hooks"), filepath.Join(t.TempDir(), "log")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "one"), []byte("#!/bin/sh\necho $1 >>"+log+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := program(t, "qemu-hook-dir", dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(stdout)
	for _, phase := range []string{"prepare", "freeze"} {
		if _, err := io.WriteString(stdin, phase+"\n"); err != nil {
			t.Fatal(err)
		}
		if answer, err := answers.ReadString('\n'); err != nil || !strings.HasPrefix(answer, "ok") {
			t.Fatalf("%s: %q, %v", phase, answer, err)
		}
	}
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(log); err != nil || string(b) != "freeze\nthaw\n" {
		t.Errorf("ran %q, %v", b, err)
	}
}

func TestLibvirtUsage(t *testing.T) {
	for _, args := range [][]string{{"libvirt"}, {"libvirt", "--virsh", "/bin/true", "--", "-x"}, {"libvirt", "a", "b"}, {"qemu-hook-dir", "a"}, {"qemu-hook-dir", "/a", "/b"}} {
		if _, errs, status := talk(t, "", args...); status != exitUsage || errs == "" {
			t.Errorf("%v: exit status %d, %s", args, status, errs)
		}
	}
}
