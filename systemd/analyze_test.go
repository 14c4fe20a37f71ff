package systemd_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func analyze(t *testing.T, env string, args ...string) string {
	t.Helper()
	c := exec.Command("systemd-analyze", args...)
	c.Env = append(os.Environ(), env, "LANG=C.UTF-8")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

var command = regexp.MustCompile(`(?m)^(Exec[A-Za-z]+=)\S+`)

// The units are what this host's systemd understands, without a warning.
func TestVerify(t *testing.T) {
	dir := t.TempDir()
	var units []string
	for _, kind := range []string{"service", "socket", "timer"} {
		files, err := filepath.Glob("*." + kind)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasPrefix(name, "org.") {
				continue // the bus's
			}
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			// The programs are not installed here.
			to := filepath.Join(dir, name)
			if err := os.WriteFile(to, command.ReplaceAll(text, []byte("${1}/bin/true")), 0o644); err != nil {
				t.Fatal(err)
			}
			units = append(units, strings.Replace(to, "@.", "@db.", 1))
		}
	}
	if len(units) < 8 {
		t.Fatalf("units: %q", units)
	}
	for line := range strings.Lines(analyze(t, "SYSTEMD_UNIT_PATH="+dir+":", append([]string{"verify", "--man=no"}, units...)...)) {
		if strings.Contains(line, "fermata") {
			t.Error(line)
		}
	}
}

// The manual's scores are those of systemd 252; another version's must not be much worse.
func TestSecurity(t *testing.T) {
	manual, err := os.ReadFile("../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	old := strings.HasPrefix(analyze(t, "", "--version"), "systemd 252 ")
	rows := regexp.MustCompile("(?m)^\\| `(fermata[a-z@-]*)` \\| ([0-9]+\\.[0-9]) \\|").FindAllStringSubmatch(string(manual), -1)
	if len(rows) != 5 {
		t.Fatalf("the manual has %q", rows)
	}
	for _, row := range rows {
		out := analyze(t, "", "security", "--offline=true", "--no-pager", row[1]+".service")
		m := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindStringSubmatch(out)
		var want, got float64
		if _, err := fmt.Sscan(row[2], &want); err != nil || m == nil {
			t.Fatalf("%s: %v\n%s", row[1], err, out)
		}
		if _, err := fmt.Sscan(m[1], &got); err != nil || old && got != want || got > want+1 {
			t.Errorf("%s: %s, the manual says %s", row[1], m[1], row[2])
		}
	}
}
