package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSweep(t *testing.T) {
	parent := t.TempDir()
	for _, name := range []string{"alive", "dead", "young", "old"} {
		if err := os.Mkdir(filepath.Join(parent, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"alive", "dead"} {
		lock, err := holdLock(filepath.Join(parent, name))
		if err != nil {
			t.Fatal(err)
		}
		if name == "dead" {
			lock.Close()
		} else {
			defer lock.Close()
		}
	}
	long := time.Now().Add(-2 * startTime)
	if err := os.Chtimes(filepath.Join(parent, "old"), long, long); err != nil {
		t.Fatal(err)
	}
	if err := sweep(parent); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"alive", "young"}, entries(t, parent)); diff != "" {
		t.Error(diff)
	}
}

func TestGoParents(t *testing.T) {
	processes := map[int]string{30: "30 (go) S 20 30", 20: "20 (go) S 10 20", 10: "10 (bash) S 1 10"}
	if diff := cmp.Diff([]int{30, 20}, goParents(30, func(pid int) string { return processes[pid] })); diff != "" {
		t.Error(diff)
	}
}
