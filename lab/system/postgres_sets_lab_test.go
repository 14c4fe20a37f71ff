//go:build lab

package system

import (
	"testing"

	"github.com/fermata-project/fermata/daemon/api"
)

// A busy PostgreSQL with its write-ahead log and a tablespace on another volume: each set, started as a server of its own, is
// without fault, has all rows that were acknowledged before its instant, and none that was begun after the thaw.
func TestPostgreSQLSets(t *testing.T) {
	p := newPostgres(t)
	idleHolds(t, "db")
	p.work(t)
	loaded := holds{}
	for range writerSets(t) {
		eventually(t, "the load goes on", func() bool { return p.rows.confirmed.Load() > 10 })
		m := create(t, "--policy", "db")
		loaded.add(m)
		if m.Consistency != api.Application {
			t.Errorf("the set claims %s: %v", m.Consistency, m.Reasons)
		}
		must(t, "snapshot", "mount", m.ID, "--writable")
		p.starts(t, m, mounted(t, m.ID, p.points[0]), mounted(t, m.ID, p.points[1]))
		must(t, "snapshot", "umount", m.ID)
		must(t, "snapshot", "delete", m.ID)
	}
	loaded.report(t, "loaded")
}
