package main

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// What git describe says becomes versions that both can order: each is older than the next.
func TestPackageVersion(t *testing.T) {
	var before string
	for _, c := range []struct{ described, want string }{
		{"b05c06e", "0~20261122.031900.b05c06e"},
		{"v0.1.0-rc.1", "0.1.0~rc.1"},
		{"v0.1.0-rc.1-7-gb05c06e", "0.1.0~rc.1+7.gb05c06e"},
		{"v0.1.0", "0.1.0"},
		{"v0.1.0-12-gb05c06e-dirty", "0.1.0+12.gb05c06e+dirty"},
	} {
		got := packageVersion(c.described, time.Date(2026, 11, 22, 3, 19, 0, 0, time.UTC))
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.described, got, c.want)
		}
		if before != "" && exec.Command("dpkg", "--compare-versions", before, "lt", got).Run() != nil {
			t.Errorf("%s is not older than %s", before, got)
		}
		before = got
	}
}

func TestChanges(t *testing.T) {
	got := string(debianChanges("# Changes\n\n## Unreleased\n\nFirst.\n\n- One.\n- Two.\n\n## 0.1\n\n- Old.\n", "0.2", "DATE"))
	want := "fermata (0.2) unstable; urgency=medium\n\n  * One.\n  * Two.\n\n -- The Fermata Project <maintainers@fermata-project.example>  DATE\n"
	if got != want {
		t.Errorf("%q", got)
	}
}

func TestExamplesAreFound(t *testing.T) {
	m := &maker{options: options{docs: "../../docs"}, made: t.TempDir()}
	if err := m.examples(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"usr/share/doc/fermata/examples/policies.d/db.yaml", "usr/share/doc/fermata/examples/fermata.yaml", "etc/fermata/fermata.yaml"} {
		if found, _ := filepath.Glob(filepath.Join(m.made, name)); len(found) != 1 {
			t.Errorf("there is no %s", name)
		}
	}
}
