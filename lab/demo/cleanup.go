package main

import (
	"context"
	"strconv"
)

// cleanUp takes everything back, and looks whether that was everything.
func cleanUp(ctx context.Context, d *demo) error {
	for _, command := range []string{
		"systemctl stop postgresql-copy",
		"fermata snapshot umount latest:db",
		"fermata snapshot delete latest:db",
		"fermata snapshot list",
		"systemctl stop fermatad",
		"lvs -a db",
	} {
		if err := d.run(ctx, command); err != nil {
			return err
		}
	}
	now, err := look(ctx, d.transcript)
	if err != nil {
		return err
	}
	if err := d.before.differs(now); err != nil {
		return err
	}
	if err := d.check(true, "logical volumes, device-mapper tables and mounts are what they were before the set"); err != nil {
		return err
	}
	if err := d.run(ctx, "systemctl stop pgbench"); err != nil {
		return err
	}
	if err := d.ledger.end(); err != nil {
		return err
	}
	entries, err := d.ledger.all()
	if err != nil {
		return err
	}
	live, err := column(ctx, livePort, "select count(*) from ledger_data join ledger_fast using (n)")
	if err != nil {
		return err
	}
	if err := d.check(len(live) == 1 && live[0] == strconv.Itoa(len(entries)), "the live database has all %d transactions of the ledger", len(entries)); err != nil {
		return err
	}
	return d.run(ctx, "systemctl stop postgresql@15-demo && umount /srv/pg /srv/fast")
}
