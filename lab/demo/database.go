package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// livePort is the database's, copyPort that of the second one.
const livePort, copyPort = 5432, 5433

// warmUp is how long the clients run before the set is taken, so that there is something to compare with.
const warmUp = 5 * time.Second

// startDatabase makes a cluster with its data directory on ext4, and its write-ahead log and a tablespace on XFS. Every
// table of the load has its index on the other volume.
func startDatabase(ctx context.Context, d *demo) error {
	for _, command := range []string{
		"install -d -o postgres -g postgres /srv/pg/data /srv/fast/wal /srv/fast/space",
		"pg_createcluster --datadir /srv/pg/data --port 5432 15 demo -- --waldir /srv/fast/wal --data-checksums > /dev/null",
		"systemctl start postgresql@15-demo",
		"runuser -u postgres -- createuser --superuser root && createdb",
		"psql -q -c \"create tablespace fast location '/srv/fast/space'\"",
		"psql -q -c 'create table ledger_data (n bigint primary key using index tablespace fast)'",
		"psql -q -c 'create table ledger_fast (n bigint primary key using index tablespace pg_default) tablespace fast'",
		"pgbench --initialize --quiet --scale 2 --index-tablespace fast 2>&1 | tail -1",
		"systemd-run --quiet --unit pgbench pgbench --client 2 --rate 100 --time 600 --no-vacuum",
	} {
		if err := d.run(ctx, command); err != nil {
			return err
		}
	}
	if err := d.ledger.start(livePort); err != nil {
		return err
	}
	d.say("Beside pgbench runs a ledger client: each of its transactions inserts the next number into ledger_data (ext4)\n" +
		"and ledger_fast (XFS). It keeps in memory, for each number, when it sent the transaction and when the server\n" +
		"acknowledged its commit.")
	select {
	case <-time.After(warmUp):
	case <-ctx.Done():
		return ctx.Err()
	}
	count, err := d.ledger.acknowledged()
	if err != nil {
		return err
	}
	return d.check(count > 0, "the ledger has %d acknowledged transactions after %v", count, warmUp)
}

// connect logs in as root by the local socket.
func connect(ctx context.Context, port int) (*pgconn.PgConn, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return pgconn.Connect(ctx, fmt.Sprintf("host=/run/postgresql port=%d user=root dbname=root", port))
}

// column runs a query and returns its first column.
func column(ctx context.Context, port int, sql string) ([]string, error) {
	conn, err := connect(ctx, port)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	r := conn.ExecParams(ctx, sql, nil, nil, nil, nil).Read()
	if r.Err != nil {
		return nil, fmt.Errorf("%s: %w", sql, r.Err)
	}
	var values []string
	for _, row := range r.Rows {
		values = append(values, string(row[0]))
	}
	return values, nil
}
