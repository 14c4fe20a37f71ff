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
}

// locate asks the session for the position.
func (s server) locate(ctx context.Context, hold *session) (position, error) {
	var p position
	rows, err := hold.query(ctx, "SELECT CONNECTION_ID() AS id")
	if err != nil || len(rows) != 1 {
		return position{}, errors.Join(errors.New("cannot ask which connection this is"), err)
	}
	p.connection = rows[0]["id"]
	rows, err = hold.query(ctx, "SHOW GLOBAL STATUS LIKE 'Uptime'")
	if err == nil && len(rows) == 1 {
		p.uptime, err = strconv.Atoi(rows[0]["value"])
	}
	if err != nil || len(rows) != 1 {
		return position{}, errors.Join(errors.New("cannot ask how long the server has been up"), err)
	}
	if !s.set("log_bin") {
		return p, nil
	}
	show, right := s.showBinaryLog()
	if rows, err = hold.query(ctx, show); err != nil || len(rows) != 1 {
		return position{}, errors.Join(errors.New("cannot ask for the position in the binary log"), s.granted(err, right))
	}
	p.file, p.at, p.gtid = rows[0]["file"], rows[0]["position"], rows[0]["executed_gtid_set"]
	if !s.mariadb {
		return p, nil
	}
	if rows, err = hold.query(ctx, "SELECT @@gtid_binlog_pos AS gtid"); err != nil || len(rows) != 1 {
		return position{}, errors.Join(errors.New("cannot ask for the GTID"), err)
	}
	p.gtid = rows[0]["gtid"]
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
	case p.gtid != now.gtid:
		return fmt.Errorf("something was committed during the hold: the binary log went from GTID %s to %s", p.gtid, now.gtid)
	case p.gtid == "" && (p.file != now.file || p.at != now.at): // MariaDB notes its own checkpoints there, too
		return fmt.Errorf("something was committed during the hold: the binary log went from %s:%s to %s:%s",
			p.file, p.at, now.file, now.at)
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
