package inside

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestModuleFiles(t *testing.T) {
	dep := "kernel/fs/overlayfs/overlay.ko:\nkernel/drivers/md/dm-thin-pool.ko: kernel/drivers/md/dm-bio-prison.ko kernel/drivers/md/dm-mod.ko\n"
	for name, want := range map[string][]string{
		"overlay":      {"kernel/fs/overlayfs/overlay.ko"},
		"dm-thin-pool": {"kernel/drivers/md/dm-mod.ko", "kernel/drivers/md/dm-bio-prison.ko", "kernel/drivers/md/dm-thin-pool.ko"},
		"ext4":         nil,
		"thin-pool":    nil,
	} {
		if diff := cmp.Diff(want, moduleFiles(dep, name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestExitCode(t *testing.T) {
	for script, want := range map[string]int{"exit 0": 0, "exit 3": 3, "kill -9 $$": 137, "kill -15 $$": 143} {
		if got, err := exitCode(exec.Command("sh", "-c", script).Run()); got != want || err != nil {
			t.Errorf("%s: %d, %v, want %d", script, got, err, want)
		}
	}
	if got, err := exitCode(exec.ErrWaitDelay); got != 0 || err != nil {
		t.Errorf("a daemon left behind: %d, %v", got, err)
	}
	if _, err := exitCode(exec.Command("/no/such/program").Run()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestStatusIsWholeWithNewline(t *testing.T) {
	dir := t.TempDir()
	if err := writeStatus(dir, Status{Code: 5}); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, StatusFile)); err != nil || string(text) != "{\"Code\":5}\n" {
		t.Errorf("wrote %q, %v", text, err)
	}
}

func TestReadPlan(t *testing.T) {
	dir := t.TempDir()
	if _, err := readPlan(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, PlanFile), []byte(`{"Command":["true"]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := readPlan(dir)
	if err != nil || len(p.Command) != 1 {
		t.Errorf("plan %+v, %v", p, err)
	}
}
