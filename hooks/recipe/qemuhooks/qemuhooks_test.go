package qemuhooks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/config/ownership"
	"github.com/fermata-project/fermata/hooks"
)

// directory has scripts that write what they are asked to a log, and then do what the text of their name says.
func directory(t *testing.T, scripts map[string]string) (dir string, log func() []string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "fsfreeze-hook.d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "log")
	for name, text := range scripts {
		text = fmt.Sprintf("#!/bin/sh\necho %s $# $1 >>%s\n%s\n", name, file, text)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir, func() []string {
		b, err := os.ReadFile(file)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	}
}

func prepared(t *testing.T, dir string) *Hooks {
	t.Helper()
	h, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Prepare(t.Context(), hooks.Request{}); err != nil {
		t.Fatal(err)
	}
	return h
}

// What is run, and in which order, is as in QEMU.
func TestAsInQEMU(t *testing.T) {
	dir, log := directory(t, map[string]string{"20-b": "", "10-a": "", "z.sh": "", "old~": "", "x.bak": "", "x.dpkg-old": "", "x.rpmsave": "", ".hidden": "", "plain": ""})
	if err := os.Chmod(filepath.Join(dir, "plain"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "sub"), 0o755), os.Symlink("nowhere", filepath.Join(dir, "dangling"))); err != nil {
		t.Fatal(err)
	}
	h, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	data, err := h.Prepare(t.Context(), hooks.Request{})
	if want := []string{"10-a", "20-b", "z.sh"}; err != nil || !slices.Equal(data["scripts"].([]string), want) {
		t.Fatalf("got %v, %v", data, err)
	}
	if got := log(); len(got[0]) > 0 {
		t.Errorf("prepare ran %v", got)
	}
	if _, err := h.Freeze(t.Context(), hooks.Request{}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Thaw(t.Context(), hooks.Request{}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.Abort(t.Context(), hooks.Request{}), h.Close()); err != nil {
		t.Error(err)
	}
	want := []string{"10-a 1 freeze", "20-b 1 freeze", "z.sh 1 freeze", "10-a 1 thaw", "20-b 1 thaw", "z.sh 1 thaw"}
	if got := log(); !slices.Equal(got, want) {
		t.Errorf("ran %q, want %q", got, want)
	}
}

// A freeze that fails is no hold; whoever was asked to freeze is thawed, and nobody else.
func TestFreezeFails(t *testing.T) {
	for name, text := range map[string]string{"exit status": `test $1 = thaw || { echo no disk >&2; exit 3; }`, "hangs": `test $1 = thaw || sleep 60`} {
		t.Run(name, func(t *testing.T) {
			dir, log := directory(t, map[string]string{"1": "", "2": text, "3": ""})
			h := prepared(t, dir)
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			_, err := h.Freeze(ctx, hooks.Request{})
			if err == nil || !strings.Contains(err.Error(), "script 2 freeze") || !strings.Contains(err.Error(), "no disk") && name != "hangs" {
				t.Errorf("got %v", err)
			}
			if _, err := h.Thaw(t.Context(), hooks.Request{}); err != nil {
				t.Error(err)
			}
			if got, want := log(), []string{"1 1 freeze", "2 1 freeze", "1 1 thaw", "2 1 thaw"}; !slices.Equal(got, want) {
				t.Errorf("ran %q, want %q", got, want)
			}
		})
	}
}

// A script that cannot be thawed, or hangs, is a lost hold. It keeps no other from its thaw, and is asked again at the end.
func TestThawFails(t *testing.T) {
	for name, text := range map[string]string{"exit status": "test $1 = freeze || test -e $0.again || { touch $0.again; exit 1; }",
		"hangs": "test $1 = freeze || test -e $0.again || { touch $0.again; sleep 60; }"} {
		t.Run(name, func(t *testing.T) {
			dir, log := directory(t, map[string]string{"1": text, "2": ""})
			h := prepared(t, dir)
			if _, err := h.Freeze(t.Context(), hooks.Request{}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if _, err := h.Thaw(ctx, hooks.Request{}); !errors.Is(err, hooks.ErrHoldLost) || !strings.Contains(err.Error(), "script 1 thaw") {
				t.Errorf("got %v", err)
			}
			if err := h.Close(); err != nil {
				t.Error(err)
			}
			if got, want := log(), []string{"1 1 freeze", "2 1 freeze", "1 1 thaw", "2 1 thaw", "1 1 thaw"}; !slices.Equal(got, want) {
				t.Errorf("ran %q, want %q", got, want)
			}
		})
	}
}

// The end of the session thaws, when the daemon has died for instance.
func TestCloseThaws(t *testing.T) {
	dir, log := directory(t, map[string]string{"1": ""})
	h := prepared(t, dir)
	if _, err := h.Freeze(t.Context(), hooks.Request{}); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if got, want := log(), []string{"1 1 freeze", "1 1 thaw"}; !slices.Equal(got, want) {
		t.Errorf("ran %q, want %q", got, want)
	}
}

func TestRefusals(t *testing.T) {
	prepare := func(dir string) error {
		h, err := New(dir)
		if err != nil {
			return err
		}
		_, err = h.Prepare(t.Context(), hooks.Request{})
		return err
	}
	if err := prepare("relative"); err == nil {
		t.Error("a relative directory was taken")
	}
	if err := prepare("/nonexistent"); !os.IsNotExist(errors.Unwrap(err)) {
		t.Errorf("no directory: %v", err)
	}
	empty, _ := directory(t, nil)
	if err := prepare(empty); err == nil || !strings.Contains(err.Error(), "no script") {
		t.Errorf("no script: %v", err)
	}
	if os.Geteuid() != 0 {
		return // an ordinary user may run whatever he likes
	}
	dir, _ := directory(t, map[string]string{"1": ""})
	if err := os.Chmod(filepath.Join(dir, "1"), 0o757); err != nil {
		t.Fatal(err)
	}
	if err := prepare(dir); !errors.Is(err, ownership.ErrUntrusted) {
		t.Errorf("others can write the script: %v", err)
	}
	if err := errors.Join(os.Chmod(filepath.Join(dir, "1"), 0o755), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	if err := prepare(dir); !errors.Is(err, ownership.ErrUntrusted) {
		t.Errorf("others can write the directory: %v", err)
	}
}
