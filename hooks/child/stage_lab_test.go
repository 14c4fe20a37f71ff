//go:build lab

package child

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fermata-project/fermata/lab/labtest"
)

// image makes a filesystem with these files on a disk, and returns what shows it for a moment.
func image(t *testing.T, disk string, files ...string) (shown func(look func(dir string))) {
	t.Helper()
	labtest.Run(t, "mkfs.ext4", "-q", "-F", disk)
	shown = func(look func(dir string)) {
		t.Helper()
		dir := t.TempDir()
		labtest.Run(t, "mount", disk, dir)
		defer labtest.Run(t, "umount", dir)
		look(dir)
	}
	shown(func(dir string) {
		for _, name := range files {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("image\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	})
	return shown
}

// on runs a script on a stage and returns what it said.
func on(t *testing.T, s *Stage, script string) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := Start(Command{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Stdout: w, Orphaned: syscall.SIGTERM, Stage: s})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := p.Struck(ctx); err != nil {
		t.Error(err)
	}
	return string(out)
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A stage shows the images where the live filesystems are, can be written to nowhere else, leads to nobody on the host, and
// leaves nothing. The root's image is one of them.
func TestStage(t *testing.T) {
	labtest.CheckClean(t)
	disks := labtest.Disks(t)
	root := image(t, disks[0], "etc/which", "etc/there", "srv/two/below", "opt/which")
	two := image(t, disks[1], "which")
	place := t.TempDir()
	s := &Stage{Root: place, Mounts: []Mount{
		{Device: disks[1], FSType: "ext4", Path: "/srv/two"}, {Device: disks[0], FSType: "ext4", Path: "/"},
	}}
	if err := os.WriteFile("/tmp/secret", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	defer os.Remove("/tmp/secret")
	before := readFile(t, "/proc/self/mountinfo")
	for range 5 { // by several threads
		said := on(t, s, `
			cat /etc/which /srv/two/which; ls /tmp /run /dev/shm; ls /srv/two
			echo new > /etc/new; echo new > /srv/two/new; echo new > /tmp/new
			for dir in /usr /root / /proc/sys/kernel; do touch $dir/new 2>/dev/null && echo $dir can be written to; done
			ls /sys/class/net /proc/sysvipc; grep -c : /proc/net/dev; setsid sleep 1000 & :`)
		want := "image\nimage\n/dev/shm:\n\n/run:\n\n/tmp:\n"
		if !strings.HasPrefix(said, want) || strings.Contains(said, "can be written to") || !strings.HasSuffix(said, "\n1\n") {
			t.Errorf("it saw %q", said)
		}
		if after := readFile(t, "/proc/self/mountinfo"); after != before {
			t.Fatalf("mounted on the host:\n%s\nbefore:\n%s", after, before)
		}
	}
	for _, path := range []string{"/etc/new", "/srv/two", "/etc/which", "/tmp/new", "/usr/new"} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is on the host", path)
		}
	}
	root(func(dir string) {
		if got := readFile(t, dir+"/etc/new"); got != "new\n" {
			t.Errorf("the image has %q", got)
		}
	})
	two(func(dir string) {
		if got := readFile(t, dir+"/new"); got != "new\n" {
			t.Errorf("the image has %q", got)
		}
	})
}

// What cannot be mounted is an error, and nothing is left of it.
func TestStageFails(t *testing.T) {
	labtest.CheckClean(t)
	disks := labtest.Disks(t)
	image(t, disks[0])
	labtest.Run(t, "wipefs", "-qa", disks[1])
	if err := os.MkdirAll("/srv/one", 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove("/srv/one")
	for name, last := range map[string]Mount{
		"no filesystem":  {Device: disks[1], FSType: "ext4", Path: "/srv"},
		"no mount point": {Device: disks[1], FSType: "ext4", Path: "/srv/one/nowhere"},
	} {
		s := &Stage{Mounts: []Mount{{Device: disks[0], FSType: "ext4", Path: "/srv/one"}, last}}
		p, err := Start(Command{Path: "/bin/true", Args: []string{"true"}, Stage: s})
		if err == nil {
			t.Errorf("%s: it was started: %v", name, p.Struck(t.Context()))
			continue
		}
		if !strings.Contains(err.Error(), "cannot mount "+disks[1]) {
			t.Errorf("%s: %v", name, err)
		}
		labtest.Run(t, "mkfs.ext4", "-q", "-F", disks[0]) // nobody uses it
	}
}
