//go:build lab

package packages

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/lab/labtest"
)

// Everything that docs/tutorial.md has one type works, prints what it says, and leaves nothing.
func TestTutorial(t *testing.T) {
	labtest.CheckClean(t)
	page, err := os.ReadFile("../../docs/tutorial.md")
	if err != nil {
		t.Fatal(err)
	}
	os.Remove("/var/lib/man-db/auto-update") // dpkg would index the manual each time
	dir := t.TempDir()
	pkg, err := filepath.Abs(dpkg.file(t, "0.0.2"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(pkg, filepath.Join(dir, filepath.Base(pkg))); err != nil {
		t.Fatal(err)
	}
	all := steps(strings.ReplaceAll(string(page), "/dev/sdb", labtest.Disks(t)[1]))
	c := exec.Command("bash", "-c", script(all))
	c.Dir = dir
	c.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive")
	out, err := c.CombinedOutput()
	printed := strings.Split(string(out), marker+"\n")
	for i, s := range all {
		if i >= len(printed) || i == len(printed)-1 {
			t.Fatalf("this fails (%v):\n%s\nit prints:\n%s\n%s", err, s.typed, printed[len(printed)-1],
				labtest.Run(t, "journalctl", "-u", "fermatad", "-n", "40", "--no-pager", "-o", "cat"))
		}
		t.Logf("%s\n%s", s.typed, printed[i])
		if s.prints != "" && !matches(s.prints, printed[i]) {
			t.Errorf("this:\n%s\nprints:\n%s\nand not:\n%s", s.typed, printed[i], s.prints)
		}
	}
	if _, status := labtest.Try(t, "dpkg", "-s", "fermata"); status == 0 {
		t.Error("the package is still installed")
	}
}
