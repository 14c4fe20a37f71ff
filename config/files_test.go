package config

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestWhichFiles shows which files of a folder are read, and what is said of those that cannot be.
func TestWhichFiles(t *testing.T) {
	dir := t.TempDir()
	policies := filepath.Join(dir, "policies.d")
	for _, name := range []string{"b.yaml", "a.yaml", ".hidden.yaml", "a.yaml.bak", "a.yaml~", "README", "old.yml", "#a.yaml#"} {
		write(t, filepath.Join(policies, name), "volumes: [/srv]\n")
	}
	write(t, filepath.Join(policies, "large.yaml"), "volumes: [/srv]\n"+strings.Repeat("#\n", maxFileSize/2))
	if err := os.Mkdir(filepath.Join(policies, "folder.yaml"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a.yaml", filepath.Join(policies, "link.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(policies, "pipe.yaml"), 0o644); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "writers.d"), "a file, not a folder")

	c, err := build(dir, readAll(dir, false))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if _, err := c.Policy(name); err != nil {
			t.Error(err)
		}
	}
	want := `policies.d/folder.yaml: not a regular file
policies.d/large.yaml: the file is larger than 1 MiB
policies.d/link.yaml: the file is a symbolic link: put a regular file in its place
policies.d/old.yml: warning: the file is ignored: rename it to end in .yaml
policies.d/pipe.yaml: not a regular file
writers.d: cannot read the folder: not a directory`
	if got := strings.ReplaceAll(c.Problems.Error(), dir+"/", ""); got != want {
		t.Errorf("problems are\n%s\nwant\n%s", got, want)
	}
	if len(c.Policies) != 2 || len(c.Problems.Errors()) != 5 || len(c.Problems.Warnings()) != 1 {
		t.Errorf("policies are %v, problems %d", c.Policies, len(c.Problems))
	}
	if _, err := c.Policy("pipe"); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a file that cannot be read gives %v", err)
	}
}

func TestTooManyFiles(t *testing.T) {
	dir := t.TempDir()
	for i := range maxFiles + 2 {
		write(t, filepath.Join(dir, "writers.d", fmt.Sprintf("w%04d.yaml", i)), "type: null")
	}
	c, err := build(dir, readAll(dir, false))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Writers) != maxFiles || len(c.Problems) != 1 || !strings.Contains(c.Problems[0].Message, `from "w1000.yaml" on`) {
		t.Errorf("%d writers, problems are %v", len(c.Writers), c.Problems)
	}
}

// TestTrust reads as root would. Whoever runs the test owns the files, so where that is not root
// all of them are refused for their owner.
func TestTrust(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "writers.d", "good.yaml"), "type: null")
	write(t, filepath.Join(dir, "writers.d", "open.yaml"), "type: null")
	write(t, filepath.Join(dir, "policies.d", "p.yaml"), "volumes: [/srv]")
	chmod := func(mode fs.FileMode, name string) {
		t.Helper()
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	chmod(0o666, "writers.d/open.yaml")
	chmod(0o777, "policies.d")
	c, err := build(dir, readAll(dir, true))
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		if len(c.Writers)+len(c.Policies) != 0 {
			t.Errorf("files of user %d are trusted: %v", os.Geteuid(), c)
		}
		return
	}
	defer chmod(0o755, "")
	chmod(0o777, "")
	if c, err := build(dir, readAll(dir, true)); err != nil || len(c.Writers)+len(c.Policies) != 0 {
		t.Errorf("files are trusted below a folder that others can write to: %v, %v", c, err)
	}
	want := `policies.d/p.yaml: folder policies.d: mode 0777 lets others than root write: run chmod go-w on it
writers.d/open.yaml: mode 0666 lets others than root write: run chmod go-w on it`
	if got := strings.ReplaceAll(c.Problems.Error(), dir+"/", ""); got != want {
		t.Errorf("problems are\n%s\nwant\n%s", got, want)
	}
	if _, err := c.Writer("good"); err != nil {
		t.Error(err)
	}

	write(t, filepath.Join(dir, "fermata.yaml"), "")
	chmod(0o777, "")
	if _, err := build(dir, readAll(dir, true)); err == nil || !strings.Contains(err.Error(), "fermata.yaml: folder") {
		t.Errorf("a folder that all can write gives %v", err)
	}
}

// TestPrograms shows which executables become plug-ins, and what is said of those that do not.
func TestPrograms(t *testing.T) {
	dir := t.TempDir()
	providers, shipped := filepath.Join(dir, "providers.d"), filepath.Join(dir, "shipped")
	for _, name := range []string{"array", "with-options", "disabled", "thin", "no name", "README", ".hidden"} {
		write(t, filepath.Join(providers, name), "#!/bin/sh\n")
		if name != "README" {
			if err := os.Chmod(filepath.Join(providers, name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(t, filepath.Join(providers, "with-options.yaml"), "type: plugin\nkind: hardware\n")
	write(t, filepath.Join(providers, "disabled.yaml"), "type: plugin\nkind: hard\n")
	write(t, filepath.Join(dir, "policies.d", "a.yaml"), "volumes: [/srv]\nprovider: array\n")
	for _, name := range []string{"array", "btrfs"} {
		write(t, filepath.Join(shipped, name), "#!/bin/sh\n")
		if err := os.Chmod(filepath.Join(shipped, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"linked": "../shipped/btrfs", "broken": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(providers, name)); err != nil {
			t.Fatal(err)
		}
	}
	r := &fileReader{}
	files := readAll(dir, false)
	files.programs = r.programs(providers, shipped)
	c, err := build(dir, files)
	if err != nil {
		t.Fatal(err)
	}
	want := `providers.d/broken: the link leads nowhere
providers.d/disabled.yaml:2:7: kind: "hard" is not one of hardware, software: did you mean "hardware"?
providers.d/no name: the plug-in is not used: "no name" is no name: 1 to 64 of A-Z, a-z, 0-9, - and _ are allowed, the first not -
providers.d/thin: the plug-in is not used: a built-in provider has this name: rename the file`
	if got := strings.ReplaceAll(c.Problems.Error(), dir+"/", ""); got != want {
		t.Errorf("problems are\n%s\nwant\n%s", got, want)
	}
	for name, path := range map[string]string{
		"array": "providers.d/array", "with-options": "providers.d/with-options", "linked": "providers.d/linked", "btrfs": "shipped/btrfs",
	} {
		p, err := c.Provider(name)
		if err != nil || p.Plugin == nil || len(p.Plugin.Command) != 1 || p.Plugin.Command[0] != filepath.Join(dir, path) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	if p := c.Providers["with-options"]; p.Plugin.Kind != "hardware" || p.Plugin.Timeouts.Window != 2*time.Second {
		t.Errorf("got %+v", p.Plugin)
	}
	if _, err := c.Policy("a"); err != nil {
		t.Error(err)
	}
	if _, err := c.Provider("disabled"); err == nil {
		t.Error("a plug-in whose file is bad can be used")
	}
	if p := c.Providers["thin"]; p.Plugin != nil {
		t.Error("a built-in provider was replaced")
	}
}

// TestUntrustedPrograms: what others can change is not run by root. Anybody else, who runs nothing, only checks the text.
func TestUntrustedPrograms(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "providers.d", "array")
	write(t, path, "#!/bin/sh\n")
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		c, err := Load(dir)
		if err == nil {
			_, err = c.Provider("array")
		}
		if err != nil {
			t.Errorf("as user %d: %v", os.Geteuid(), err)
		}
		return
	}
	check := func(want string) {
		t.Helper()
		c, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Provider("array"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	check("mode 0777 lets others than root write")
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 1234, 0); err != nil {
		t.Fatal(err)
	}
	check("owned by user 1234")
	if err := os.Chown(path, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	check("mode 0777 lets others than root write")
}

// When a policy's file was changed is when it came to this host, not when it was written where it was copied from.
func TestChanged(t *testing.T) {
	began := time.Now().Add(-time.Second)
	dir := t.TempDir()
	path := filepath.Join(dir, "policies.d", "p.yaml")
	write(t, path, "volumes: [/srv]\n")
	if err := os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	c, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if at := c.Policies["p"].Changed; at.Before(began) || at.After(time.Now().Add(time.Second)) {
		t.Errorf("changed %v", at)
	}
}
