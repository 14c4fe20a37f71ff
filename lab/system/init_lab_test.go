//go:build lab

package system

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

// What fermata init writes of a host with the servers of Debian, each with a volume of its own, is sound, and works: each writer holds,
// each policy makes a set of consistency application, and its copy is without fault.
func TestInit(t *testing.T) {
	vols := thinVolumes(t, 3)
	server(t, vols[0], "/var/lib/mysql", "mariadb")
	server(t, vols[1], "/var/lib/redis", "redis-server")
	db := filepath.Join(vols[2].Point, "app.db")
	labtest.Run(t, "sqlite3", db, "CREATE TABLE t (n); INSERT INTO t VALUES (1)")

	configure(t, nil) // it is read anew, and without what follows after the test
	t.Cleanup(func() { labtest.Run(t, "rm", "-rf", "/etc/fermata") })
	said := must(t, "init", "--output", "/etc/fermata", "--sqlite", db)
	for _, name := range []string{"mariadb", "redis", "sqlite"} {
		if !strings.Contains(said, "/etc/fermata/writers.d/"+name) || !strings.Contains(said, "/etc/fermata/policies.d/"+name) {
			t.Errorf("nothing of %s was recognised:\n%s", name, said)
		}
	}
	if out := must(t, "config", "check"); !strings.Contains(out, "sound, 3 policies") {
		t.Errorf("the configuration is %s", out)
	}
	must(t, "config", "reload")
	var policies []api.Policy
	decode(t, must(t, "policy", "list", "--json"), &policies)
	for _, p := range policies {
		id := strings.TrimSpace(must(t, "policy", "run", p.Name))
		t.Cleanup(func() { fermata(t, "snapshot", "delete", id) })
		i := slices.IndexFunc(sets(t), func(m api.Manifest) bool { return m.ID == id })
		if m := sets(t)[i]; m.Consistency != api.Application || len(m.Volumes) != 1 || len(m.Writers) != 1 || m.Writers[0].Name != p.Writers[0] {
			t.Errorf("policy %s: %+v", p.Name, m)
		}
		if a := fermata(t, "snapshot", "verify", id); a.status != 0 {
			t.Errorf("policy %s: %s%s", p.Name, a.stdout, a.stderr)
		}
		must(t, "snapshot", "delete", id)
	}
}

// server runs a service of Debian, with a volume where its data are.
func server(t testing.TB, v labtest.Volume, data, unit string) {
	t.Helper()
	labtest.Run(t, "cp", "-a", data+"/.", v.Point)
	labtest.Run(t, "umount", v.Point)
	v.Point = data
	v.Mount(t)
	t.Cleanup(func() { labtest.Run(t, "umount", data) })
	labtest.Run(t, "systemctl", "start", unit)
	t.Cleanup(func() { labtest.Run(t, "systemctl", "stop", unit) })
}
