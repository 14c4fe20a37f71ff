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

// Repositories of restic and borg, made with fermata exec of a busy PostgreSQL as docs/backup.md says: the database starts on what is
// restored from them, and has what was acknowledged before the instant of the set.
func TestBackupPrograms(t *testing.T) {
	p := newPostgres(t)
	p.work(t)
	repositories := t.TempDir()
	for name, value := range map[string]string{
		"RESTIC_REPOSITORY": filepath.Join(repositories, "restic"), "RESTIC_PASSWORD": "of the lab",
		"BORG_REPO": filepath.Join(repositories, "borg"), "BORG_BASE_DIR": repositories, "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
	} {
		t.Setenv(name, value)
	}
	sh := func(dir, script string) {
		t.Helper()
		labtest.Run(t, "sh", "-ec", "cd "+dir+"; "+script)
	}
	backup := func(command ...string) api.Manifest {
		t.Helper()
		eventually(t, "the load goes on", func() bool { return p.rows.confirmed.Load() > 10 })
		noted := `fermata snapshot show "$FERMATA_SET" --json >/run/pg-live/set.json; exec "$@"`
		must(t, append([]string{"exec", "--policy", "db", "--", "sh", "-c", noted, "sh"}, command...)...)
		if n := len(sets(t)); n > 0 {
			t.Errorf("%d sets are left", n)
		}
		text, err := os.ReadFile("/run/pg-live/set.json")
		if err != nil {
			t.Fatal(err)
		}
		var m api.Manifest
		decode(t, string(text), &m)
		if m.Consistency != api.Application {
			t.Errorf("the set claims %s: %v", m.Consistency, m.Reasons)
		}
		return m
	}

	t.Run("restic", func(t *testing.T) {
		labtest.Run(t, "restic", "--quiet", "init")
		m := backup("restic", "--quiet", "backup", "--exclude", "postmaster.pid", "--tag", "db", "/run/fermata/exec/db")
		at := t.TempDir()
		labtest.Run(t, "restic", "restore", "latest", "--tag", "db", "--target", at, "--include", "/run/fermata/exec/db")
		root := at + "/run/fermata/exec/db"
		p.starts(t, m, root+p.points[0], root+p.points[1])
		if out := labtest.Run(t, "restic", "dump", "latest", "/run/fermata/exec/db"+p.data+"/PG_VERSION"); out != "15\n" {
			t.Errorf("dumped: %q", out)
		}
		// The same paths each time: the second backup has the first for its parent.
		backup("restic", "--quiet", "backup", "--exclude", "postmaster.pid", "--tag", "db", "/run/fermata/exec/db")
		if out := labtest.Run(t, "restic", "snapshots", "--json"); !strings.Contains(out, `"parent"`) {
			t.Errorf("the second backup has no parent: %s", out)
		}
	})
	t.Run("borg", func(t *testing.T) {
		labtest.Run(t, "borg", "init", "--encryption", "none")
		m := backup("sh", "-c", `cd "$FERMATA_ROOT" && borg create --exclude "*/postmaster.pid" ::db-one .`)
		at := t.TempDir()
		sh(at, "borg extract ::db-one")
		p.starts(t, m, at+p.points[0], at+p.points[1])
	})
	t.Run("by hand", func(t *testing.T) { // the scripts for Bareos
		text, err := os.ReadFile("../../docs/backup.md")
		if err != nil {
			t.Fatal(err)
		}
		script := func(name string) string {
			before, after, _ := strings.Cut(string(text), "# /usr/local/sbin/"+name+" ")
			after, _, found := strings.Cut(after, "```")
			if !found || !strings.HasSuffix(before, "#!/bin/sh\n") {
				t.Fatalf("the manual has no %s", name)
			}
			path := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, []byte("#!/bin/sh\n# "+after), 0o755); err != nil {
				t.Fatal(err)
			}
			return path
		}
		before, after := script("fermata-before"), script("fermata-after")
		labtest.Run(t, before, "db")
		if out := labtest.Run(t, "cat", "/run/fermata/exec/db"+p.data+"/PG_VERSION"); out != "15\n" {
			t.Errorf("mounted: %q", out)
		}
		labtest.Run(t, before, "db") // the job was killed
		labtest.Run(t, after, "db", "ok")
		left := sets(t)
		if len(left) != 1 || len(left[0].Mounts) > 0 {
			t.Errorf("left are %+v", left)
		}
		for _, m := range left {
			must(t, "snapshot", "delete", m.ID)
		}
	})
}
