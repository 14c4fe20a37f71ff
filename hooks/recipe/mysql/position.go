package mysql

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// position is who the session is, and where the binary log stands.
type position struct {
	connection string // CONNECTION_ID()
	uptime     int    // of the server, in seconds
	file, at   string // of the binary log; empty if there is none
	gtid       string // MariaDB: of the binary log; MySQL: executed
	mark       string // moves with every commit, and with nothing that the server notes for itself
}

// locate asks the session for the position.
func (s server) locate(ctx context.Context, hold *session) (position, error) {
	var p position
	r, err := hold.one(ctx, "SELECT CONNECTION_ID() AS id", "which connection this is")
	if err != nil {
		return position{}, err
	}
	p.connection = r["id"]
	if r, err = hold.one(ctx, "SHOW GLOBAL STATUS LIKE 'Uptime'", "how long the server has been up"); err != nil {
		return position{}, err
	}
	if p.uptime, err = strconv.Atoi(r["value"]); err != nil {
		return position{}, fmt.Errorf("cannot understand how long the server has been up: %w", err)
	}
	if !s.set("log_bin") {
		return p, nil
	}
	show, right := s.showBinaryLog()
	if r, err = hold.one(ctx, show, "for the position in the binary log"); err != nil {
		return position{}, s.granted(err, right)
	}
	p.file, p.at, p.gtid = r["file"], r["position"], r["executed_gtid_set"]
	if !s.mariadb {
		if p.mark = "GTID " + p.gtid; p.gtid == "" {
			p.mark = p.file + ":" + p.at
		}
		return p, nil
	}
	if r, err = hold.one(ctx, "SELECT @@gtid_binlog_pos AS gtid", "for the GTID"); err != nil {
		return position{}, err
	}
	p.gtid = r["gtid"]
	p.mark = "GTID " + p.gtid // MariaDB writes its own checkpoints to the file, too
	return p, nil
}

// showBinaryLog is the statement that tells the position, and the right that it
// needs.
func (s server) showBinaryLog() (statement, right string) {
	switch {
	case s.mariadb && s.atLeast(10, 5):
		return "SHOW MASTER STATUS", "BINLOG MONITOR"
	case !s.mariadb && s.atLeast(8, 2):
		return "SHOW BINARY LOG STATUS", "REPLICATION CLIENT"
	}
	return "SHOW MASTER STATUS", "REPLICATION CLIENT"
}

// same is nil if now was answered by the session and the server of p and, with a
// lock that blocks commits, nothing was written to the binary log in between.
func (p position) same(now position, commits bool) error {
	switch {
	case p.connection != now.connection:
		return fmt.Errorf("connection %s answers instead of %s: is there a proxy between? connect to the server itself",
			now.connection, p.connection)
	case now.uptime < p.uptime:
		return errors.New("the server was restarted")
	case !commits:
		return nil
	case p.mark != now.mark:
		return fmt.Errorf("something was committed during the hold: the binary log went from %s to %s", p.mark, now.mark)
	}
	return nil
}

func (p position) data(l lock) map[string]any {
	data := map[string]any{"connection_id": p.connection, "uptime_seconds": p.uptime}
	if p.file != "" {
		// Without a lock that blocks commits the snapshot may have more than this.
		data["binlog"] = map[string]any{"file": p.file, "position": p.at, "gtid": p.gtid, "exact": l.commits}
	}
	return data
}
