package hooks_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/hooks"
)

// documented returns the program of docs/writers.md that has the given first
// words in its second line.
func documented(t *testing.T, language, name string) string {
	t.Helper()
	page, err := os.ReadFile("../docs/writers.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range strings.Split(string(page), "```"+language+"\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		if lines := strings.SplitN(block, "\n", 3); strings.Contains(lines[1], name+":") {
			path := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, []byte(block), 0o755); err != nil {
				t.Fatal(err)
			}
			return path
		}
	}
	t.Fatalf("docs/writers.md has no program %s in %s", name, language)
	return ""
}

// noFailure fails for a set in which anything went wrong.
func noFailure(t *testing.T, c course) {
	t.Helper()
	for _, err := range []error{c.prepare, c.freeze, c.hold, c.thaw, c.post, c.abort} {
		if err != nil {
			t.Error(err)
		}
	}
}

func TestDocumentedShellSession(t *testing.T) {
	lock := filepath.Join(t.TempDir(), "lock")
	w := newWriter(t, hooks.Spec{Name: "app", Session: []string{documented(t, "sh", "app-writer")}, Timeouts: quick,
		Env: map[string]string{"APP_LOCK": lock}})
	noFailure(t, drive(w, unique(t), 10*time.Millisecond))

	taken := exec.Command("flock", "--no-fork", lock, "sleep", "300")
	if err := taken.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Process.Kill(); _ = taken.Wait() }()
	for exec.Command("flock", "-n", lock, "true").Run() == nil {
		time.Sleep(time.Millisecond)
	}
	w = newWriter(t, hooks.Spec{Name: "app", Session: []string{documented(t, "sh", "app-writer")}, Timeouts: quick,
		Env: map[string]string{"APP_LOCK": lock}})
	if c := drive(w, unique(t), 0); c.freeze == nil || !strings.Contains(c.freeze.Error(), "did not give its lock") {
		t.Errorf("beside another holder: %v", c.freeze)
	}
}

func TestDocumentedCommands(t *testing.T) {
	dir, path := t.TempDir(), documented(t, "sh", "queue-hook")
	spec := hooks.Spec{Name: "queue", Timeouts: quick, Env: map[string]string{"QUEUE_DIR": dir}, Commands: map[hooks.Phase][]string{}}
	for _, p := range hooks.Phases {
		spec.Commands[p] = []string{path}
	}
	noFailure(t, drive(newWriter(t, spec), unique(t), 0))
	spec.Env["QUEUE_DIR"] = filepath.Join(dir, "none")
	a, err := newWriter(t, spec).Prepare(t.Context(), unique(t))
	if err != nil || !a.Inactive || a.Text != "the queue does not run" {
		t.Errorf("Prepare() = %+v, %v", a, err)
	}
}
