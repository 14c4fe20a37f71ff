package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/fermata-project/fermata/daemon/api"
)

// startCopy starts a second server on the set. The links pg_wal and pg_tblspc/* in a data directory hold absolute paths:
// a server that simply started on the mounted copy would follow them to the live files, and write there. So it gets a mount
// namespace in which the copy stands at those paths, and the live files are nowhere.
func startCopy(ctx context.Context, d *demo) error {
	if err := d.run(ctx, "fermata snapshot mount latest:db --writable"); err != nil {
		return err
	}
	shown, err := d.output(ctx, "fermata snapshot show latest:db --json")
	if err != nil {
		return err
	}
	var m api.Manifest
	if err := json.Unmarshal([]byte(shown), &m); err != nil {
		return fmt.Errorf("cannot read the manifest: %w", err)
	}
	if len(m.Mounts) != 2 {
		return fmt.Errorf("two mounts expected: %+v", m.Mounts)
	}
	d.copy = strings.TrimSuffix(m.Mounts[0].Path, m.Mounts[0].MountPoint)
	d.say("pg_wal and pg_tblspc/* are links with absolute paths. So that the second server does not follow them to the\n" +
		"live files, it runs in a mount namespace in which the copies stand in the place of both volumes.")
	at := func(live string) string { return filepath.Join(d.copy, live) + ":" + live }
	for _, command := range []string{
		"rm " + filepath.Join(d.copy, "srv/pg/data/postmaster.pid"),
		"systemd-run --quiet --unit postgresql-copy -p Type=notify -p User=postgres \\\n" +
			"  -p BindPaths=" + at("/srv/pg") + " \\\n" +
			"  -p BindPaths=" + at("/srv/fast") + " \\\n" +
			"  /usr/lib/postgresql/15/bin/postgres -D /etc/postgresql/15/demo -c port=" + strconv.Itoa(copyPort) +
			" -c external_pid_file=/run/postgresql/copy.pid",
		"journalctl --sync; journalctl -q -u postgresql-copy -o cat | grep -oE 'LOG: .*(interrupted|recovery|redo|ready).*'",
	} {
		if err := d.run(ctx, command); err != nil {
			return err
		}
	}
	return nil
}
