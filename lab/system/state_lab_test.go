//go:build lab

package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

// A state directory that is full, read-only or full of garbage costs no set: sets are taken, listed and deleted, the status
// and the doctor say what is wrong, and what could not be written is written when there is room again.
func TestStateDirectory(t *testing.T) {
	thinVolumes(t, 1)
	const dir = "/var/lib/fermata"
	labtest.Run(t, "mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "state", dir)
	t.Cleanup(func() {
		labtest.Run(t, "umount", dir)
		labtest.Run(t, "systemctl", "restart", "fermatad")
	})
	labtest.Run(t, "systemctl", "restart", "fermatad")
	said := func(m api.Manifest) string { return strings.Join(m.Reasons, "\n") }
	wrong := func(want string) {
		t.Helper()
		if p := problems(t); !strings.Contains(p, want) {
			t.Errorf("problems: %q, want %q", p, want)
		}
		if out, _ := labtest.Try(t, "fermata", "doctor"); !strings.Contains(out, "with problems: ") || !strings.Contains(out, want) {
			t.Errorf("doctor: %s, want %q", out, want)
		}
	}
	manifest := func(m api.Manifest) bool {
		_, err := os.Stat(filepath.Join(dir, "sets", m.ID+".json"))
		return err == nil
	}
	count := func(n int) {
		t.Helper()
		if list := sets(t); len(list) != n {
			t.Errorf("%d sets, want %d: %+v", len(list), n, list)
		}
	}

	// damaged takes a set of which something is to be told: exit status 3.
	damaged := func() (m api.Manifest) {
		t.Helper()
		a := fermata(t, "snapshot", "create", "--json", "/srv/v1")
		if a.status != 3 {
			t.Fatalf("exit status %d\n%s%s\n%s", a.status, a.stdout, a.stderr, journal(t))
		}
		decode(t, a.stdout, &m)
		t.Cleanup(func() { fermata(t, "snapshot", "delete", m.ID) })
		return m
	}

	old := create(t, "/srv/v1")
	labtest.Try(t, "dd", "if=/dev/zero", "of="+dir+"/fill", "bs=4k")
	full := damaged()
	if !strings.Contains(said(full), "after the set was finished: cannot save the manifest of "+full.ID) || manifest(full) {
		t.Errorf("full: %q", said(full))
	}
	wrong("no space left on device")
	count(2)
	if err := os.Remove(dir + "/fill"); err != nil {
		t.Fatal(err)
	}
	must(t, "snapshot", "delete", old.ID)
	if p := problems(t); p != "" || !manifest(full) || manifest(old) {
		t.Errorf("with room again: problems %q, manifests: %t, %t", p, manifest(full), manifest(old))
	}

	labtest.Run(t, "mount", "-o", "remount,ro", dir)
	labtest.Run(t, "systemctl", "restart", "fermatad")
	count(1)
	sealed := damaged()
	if !strings.Contains(said(sealed), "read-only file system") {
		t.Errorf("read-only: %q", said(sealed))
	}
	must(t, "snapshot", "delete", full.ID)
	wrong("read-only file system")
	count(1)
	labtest.Run(t, "mount", "-o", "remount,rw", dir)
	last := create(t, "/srv/v1")
	if p := problems(t); p != "" || !manifest(sealed) || !manifest(last) || manifest(full) {
		t.Errorf("writable again: problems %q, manifests: %t, %t, %t", p, manifest(sealed), manifest(last), manifest(full))
	}

	labtest.Run(t, "systemctl", "stop", "fermatad")
	files, err := filepath.Glob(dir + "/*/*")
	if err != nil || len(files) != 2 {
		t.Fatalf("files: %v, %v", files, err)
	}
	for _, f := range append(files, dir+"/sets/stray.json", dir+"/clones") { // no clone was made: there is no such directory
		if err := os.WriteFile(f, []byte("\x00\xff{{garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	count(2)
	wrong("cannot read " + files[0])
	for _, m := range sets(t) {
		if m.State != api.Complete || !strings.Contains(said(m), "the manifest was lost") {
			t.Errorf("got %+v", m)
		}
	}
	create(t, "/srv/v1")
	for range 3 {
		must(t, "snapshot", "delete", "latest")
	}
	if left := snapshotLVs(t); left != "" {
		t.Errorf("left behind: %s", left)
	}
	for _, m := range []api.Manifest{sealed, last} {
		if manifest(m) {
			t.Errorf("the manifest of %s is left", m.ID)
		}
	}
}
