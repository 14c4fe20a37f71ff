//go:build lab

package system

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

// Backups by restic, borg, borgmatic and rsync, made with fermata exec of a busy PostgreSQL as docs/backup.md says: the database starts
// on what is restored from them, and has what was acknowledged before the instant of the set.
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
	// backup runs a command line of the shell that has one fermata exec, and returns its set.
	backup := func(line string) api.Manifest {
		t.Helper()
		eventually(t, "the load goes on", func() bool { return p.rows.confirmed.Load() > 10 })
		const begin = "fermata exec --policy db -- "
		if strings.Count(line, begin) != 1 {
			t.Fatalf("no backup: %s", line)
		}
		t.Setenv("NOTED", `fermata snapshot show "$FERMATA_SET" --json >/run/pg-live/set.json; exec "$@"`)
		labtest.Run(t, "sh", "-ec", strings.Replace(line, begin, begin+`sh -c "$NOTED" sh `, 1))
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
	restored := func(m api.Manifest, root string) {
		t.Helper()
		if _, err := os.Lstat(root + p.data + "/postmaster.pid"); !os.IsNotExist(err) {
			t.Errorf("the backup has what a running server leaves behind: %v", err)
		}
		p.starts(t, m, root+p.points[0], root+p.points[1])
	}

	t.Run("restic", func(t *testing.T) {
		labtest.Run(t, "restic", "--quiet", "init")
		const line = "fermata exec --policy db -- restic --quiet backup --exclude postmaster.pid --tag db /run/fermata/exec/db"
		m := backup(line)
		at := t.TempDir()
		labtest.Run(t, "restic", "restore", "latest", "--tag", "db", "--target", at, "--include", "/run/fermata/exec/db")
		restored(m, at+"/run/fermata/exec/db")
		if out := labtest.Run(t, "restic", "dump", "latest", "/run/fermata/exec/db"+p.data+"/PG_VERSION"); out != "15\n" {
			t.Errorf("dumped: %q", out)
		}
		// The same paths each time: the second backup has the first for its parent.
		backup(line)
		if out := labtest.Run(t, "restic", "snapshots", "--json"); !strings.Contains(out, `"parent"`) {
			t.Errorf("the second backup has no parent: %s", out)
		}
	})
	t.Run("borg", func(t *testing.T) {
		labtest.Run(t, "borg", "init", "--encryption", "none")
		m := backup(`fermata exec --policy db -- sh -c 'cd "$FERMATA_ROOT" && borg create --exclude "*/postmaster.pid" ::db-one .'`)
		at := t.TempDir()
		labtest.Run(t, "sh", "-ec", "cd "+at+"; borg extract ::db-one")
		restored(m, at)
	})
	t.Run("borgmatic", func(t *testing.T) {
		repository, at := filepath.Join(repositories, "borgmatic"), t.TempDir()
		text := manual(t, "borgmatic")
		if err := os.MkdirAll("/etc/borgmatic", 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll("/etc/borgmatic") })
		if err := os.WriteFile("/etc/borgmatic/config.yaml", []byte(strings.ReplaceAll(text[0], "/backup/repo", repository)), 0o600); err != nil {
			t.Fatal(err)
		}
		labtest.Run(t, "borg", "init", "--encryption", "none", repository)
		create, extract, _ := strings.Cut(text[1], "\n")
		m := backup(create)
		labtest.Run(t, "sh", "-ec", strings.ReplaceAll(extract, "/restore ", at+" "))
		restored(m, at+"/run/fermata/exec/db")
	})
	t.Run("rsync", func(t *testing.T) {
		at := t.TempDir()
		line := strings.ReplaceAll(manual(t, "rsync")[0], "backup.example.org:/mirror/db/", at+"/")
		backup(line)
		if err := os.WriteFile(filepath.Join(at, p.points[0], "gone"), nil, 0o600); err != nil { // since
			t.Fatal(err)
		}
		m := backup(line)
		if _, err := os.Stat(filepath.Join(at, p.points[0], "gone")); err == nil {
			t.Error("the mirror has what its origin has not")
		}
		restored(m, at)
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
			path := "/usr/local/sbin/" + name
			t.Cleanup(func() { os.Remove(path) })
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
		other := create(t, "--policy", "db").ID
		labtest.Run(t, after, "db", "ok")
		if left := sets(t); len(left) != 1 || left[0].ID != other {
			t.Errorf("left are %+v", left)
		}
		must(t, "snapshot", "delete", other)
	})
}

// manual are the blocks of a section of docs/backup.md.
func manual(t testing.TB, section string) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/backup.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "\n## "+section+"\n")
	after, _, _ = strings.Cut(after, "\n## ")
	var blocks []string
	for _, b := range regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```$").FindAllStringSubmatch(after, -1) {
		blocks = append(blocks, b[1])
	}
	if !found || len(blocks) == 0 {
		t.Fatalf("the manual has no %s", section)
	}
	return blocks
}
