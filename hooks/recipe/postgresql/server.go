package postgresql

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
)

// minVersion is the oldest server whose functions have the names used here.
const minVersion = 100000

// server is what has to be known of a server.
type server struct {
	version       int    // server_version_num: 150006 is 15.6
	versionText   string // server_version
	user          string // the session's
	identifier    string // of the cluster, the same on its standbys
	inRecovery    bool   // a standby
	dataDirectory string
	walDirectory  string // without symbolic links; empty in backup mode
	configFile    string
	fsync         bool
	fullPages     bool
	asyncCommit   bool
	walLevel      string
	tablespaces   []tablespace
}

// tablespace is one outside the data directory; a location that is not absolute
// is relative to that.
type tablespace struct{ name, location string }

// inspect asks the session about its server, and refuses what cannot be served.
func inspect(ctx context.Context, conn *pgconn.PgConn, backupMode bool) (server, error) {
	rows, err := query(ctx, conn, "SELECT current_setting('server_version_num'), current_setting('server_version'), current_user")
	if err != nil {
		return server{}, err
	}
	s := server{versionText: rows[0][1], user: rows[0][2]}
	if s.version, err = strconv.Atoi(rows[0][0]); err != nil {
		return server{}, fmt.Errorf("cannot understand the server's version: %w", err)
	}
	if s.version < minVersion {
		return server{}, fmt.Errorf("the server is PostgreSQL %s: 10 or newer is needed", s.versionText)
	}
	if err := s.ask(ctx, conn); err != nil {
		return server{}, err
	}
	if err := neverIdleOut(ctx, conn, s); err != nil {
		return server{}, err
	}
	if backupMode {
		return s, s.mayBackUp(ctx, conn)
	}
	return s, nil
}

// ask fills in what needs the rights of pg_read_all_settings.
func (s *server) ask(ctx context.Context, conn *pgconn.PgConn) error {
	remedy := fmt.Sprintf("GRANT pg_monitor TO %s", s.user)
	rows, err := query(ctx, conn, `SELECT pg_is_in_recovery(), current_setting('data_directory'),
		current_setting('config_file'), current_setting('fsync'), current_setting('full_page_writes'),
		current_setting('synchronous_commit'), current_setting('wal_level'),
		(SELECT system_identifier FROM pg_control_system())`)
	if err != nil {
		return fmt.Errorf("cannot read the server's settings: %w", granted(err, remedy))
	}
	row := rows[0]
	s.inRecovery, s.dataDirectory, s.configFile = row[0] == "t", row[1], row[2]
	s.fsync, s.fullPages, s.asyncCommit = row[3] == "on", row[4] == "on", row[5] == "off"
	s.walLevel, s.identifier = row[6], row[7]
	rows, err = query(ctx, conn, `SELECT spcname, pg_tablespace_location(oid) FROM pg_tablespace
		WHERE pg_tablespace_location(oid) <> '' ORDER BY spcname`)
	if err != nil {
		return fmt.Errorf("cannot list the tablespaces: %w", err)
	}
	for _, row := range rows {
		s.tablespaces = append(s.tablespaces, tablespace{name: row[0], location: row[1]})
	}
	return nil
}

// mayBackUp finds out before the freeze whether backup mode will be refused in it.
func (s server) mayBackUp(ctx context.Context, conn *pgconn.PgConn) error {
	if s.walLevel == "minimal" {
		return errors.New("wal_level is minimal: backup mode needs replica or logical")
	}
	start, stop := "pg_backup_start(text,boolean)", "pg_backup_stop(boolean)"
	if s.version < 150000 {
		start, stop = "pg_start_backup(text,boolean,boolean)", "pg_stop_backup(boolean,boolean)"
	}
	rows, err := query(ctx, conn, fmt.Sprintf("SELECT has_function_privilege(%s, 'EXECUTE'), has_function_privilege(%s, 'EXECUTE')",
		literal(start), literal(stop)))
	if err != nil {
		return fmt.Errorf("cannot see whether a backup is allowed: %w", err)
	}
	if rows[0][0] != "t" || rows[0][1] != "t" {
		return fmt.Errorf("user %s may not start a backup; GRANT EXECUTE ON FUNCTION %s, %s TO %s", s.user, start, stop, s.user)
	}
	return nil
}

// backupStart is the statement that begins a backup; fast: its checkpoint does
// not wait, and prepare has left it little to do.
func (s server) backupStart(label string) string {
	if s.version < 150000 {
		return fmt.Sprintf("SELECT pg_start_backup(%s, true, false)", literal(label))
	}
	return fmt.Sprintf("SELECT pg_backup_start(%s, true)", literal(label))
}

// backupStop is the statement that ends it and returns position, label file and
// tablespace map, without waiting for the archive.
func (s server) backupStop() string {
	if s.version < 150000 {
		return "SELECT lsn, labelfile, spcmapfile FROM pg_stop_backup(false, false)"
	}
	return "SELECT lsn, labelfile, spcmapfile FROM pg_backup_stop(false)"
}

// warnings says what does not hinder a set but should be known of it.
func (s server) warnings() []string {
	var w []string
	if !s.fullPages {
		w = append(w, "full_page_writes is off: a set taken without a filesystem freeze may have torn pages")
	}
	if s.asyncCommit {
		w = append(w, "synchronous_commit is off: transactions acknowledged just before the freeze may be missing, as after a crash")
	}
	return w
}

// data is the server as the manifest has it.
func (s server) data() map[string]any {
	locations := map[string]any{}
	for _, t := range s.tablespaces {
		locations[t.name] = t.location
	}
	data := map[string]any{
		"server_version":    s.versionText,
		"system_identifier": s.identifier,
		"in_recovery":       s.inRecovery,
		"data_directory":    s.dataDirectory,
		"config_file":       s.configFile,
		"tablespaces":       locations,
	}
	if s.walDirectory != "" {
		data["wal_directory"] = s.walDirectory
	}
	return data
}

// position is who the session is, and where the log stands.
type position struct {
	backend  string // process id of the session's backend
	started  string // when the server started, seconds since 1970
	lsn      string // written by a primary, replayed by a standby
	timeline string
}

// locate asks for the position: one round trip.
func locate(ctx context.Context, conn *pgconn.PgConn) (position, error) {
	rows, err := query(ctx, conn, `SELECT pg_backend_pid(), extract(epoch FROM pg_postmaster_start_time()),
		CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END,
		(SELECT timeline_id FROM pg_control_checkpoint())`)
	if err != nil {
		return position{}, fmt.Errorf("cannot ask for the position in the log: %w", err)
	}
	row := rows[0]
	return position{backend: row[0], started: row[1], lsn: row[2], timeline: row[3]}, nil
}

// sameSession is nil if now was answered by the session and the server of p.
func (p position) sameSession(now position) error {
	switch {
	case p.started != now.started:
		return errors.New("the server was restarted")
	case p.backend != now.backend:
		return fmt.Errorf("backend %s answers instead of %s: is there a pooler between? connect to the server itself", now.backend, p.backend)
	}
	return nil
}

func (p position) data() map[string]any {
	return map[string]any{
		"lsn":              p.lsn,
		"timeline":         p.timeline,
		"backend_pid":      p.backend,
		"postmaster_start": p.started,
	}
}
