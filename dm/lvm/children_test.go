package lvm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A command that a time limit has left behind is one: others are refused with its name, and none is started behind it,
// until it ends.
func TestLeftBehind(t *testing.T) {
	dir := t.TempDir()
	l := fakeLVM(t, `echo $1 >>`+dir+`/started; until [ -e `+dir+`/go ]; do sleep 0.02; done`)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := l.Remove(ctx, "vg/x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	left := l.LeftBehind()
	if len(left) != 1 || left[0].Pid == 0 || !strings.HasPrefix(left[0].String(), "lvremove --yes --force vg/x (process ") {
		t.Fatalf("got %v", left)
	}
	l.children.mu.Lock()
	for _, x := range l.children.running {
		x.Since = x.Since.Add(-leftPatience)
	}
	l.children.mu.Unlock()
	for range 3 {
		_, err := l.Report(t.Context())
		if err == nil {
			err = l.WithoutBackup().SetReadOnly(t.Context(), "vg/a")
		}
		if !errors.Is(err, ErrLeftBehind) || !strings.Contains(err.Error(), "lvremove --yes --force vg/x (process ") {
			t.Errorf("got %v", err)
		}
	}
	started := func() string {
		text, _ := os.ReadFile(filepath.Join(dir, "started"))
		return string(text)
	}
	for end := time.Now().Add(10 * time.Second); started() == "" && time.Now().Before(end); { // the shell may be slower than the time limit
		time.Sleep(time.Millisecond)
	}
	if got := started(); got != "lvremove\n" {
		t.Errorf("started %q", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Remove(t.Context(), "vg/x"); err != nil || len(l.LeftBehind()) != 0 {
		t.Errorf("afterwards: %v, left %v", err, l.LeftBehind())
	}
}

// One that was left a moment ago, by a requester that went away say, is waited for.
func TestLeftBehindEndsInTime(t *testing.T) {
	dir := t.TempDir()
	l := fakeLVM(t, `until [ -e `+dir+`/go ]; do sleep 0.02; done`)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := l.Remove(ctx, "vg/x"); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { os.WriteFile(dir+"/go", nil, 0o600) })
	if err := l.Remove(t.Context(), "vg/x"); err != nil {
		t.Error(err)
	}
}
