package postgresql

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fermata-project/fermata/hooks/recipe"
)

// SQLSTATE codes (PostgreSQL manual, appendix A).
const (
	codeCannotConnectNow      = "57P03" // starting up, shutting down, recovering
	codeInsufficientPrivilege = "42501"
)

// configure turns options into a connection's configuration.
func configure(o Options) (*pgconn.Config, error) {
	dsn := o.DSN
	if dsn == "" {
		dsn = DefaultDSN
	}
	if o.Service != "" {
		dsn = "service='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(o.Service) + "'"
	}
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("bad connection string: %w", err)
	}
	if config.Database == "" {
		config.Database = "postgres"
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	config.RuntimeParams["application_name"] = "fermata"
	config.RuntimeParams["client_encoding"] = "UTF8"
	config.RuntimeParams["search_path"] = "pg_catalog" // nobody slips us a function of his own
	config.RuntimeParams["standard_conforming_strings"] = "on"
	return config, nil
}

// connect opens the session. A server that provably does not run is
// recipe.Inactive; one that is starting is waited for, since it runs.
func connect(ctx context.Context, o Options) (*pgconn.PgConn, error) {
	config, err := configure(o)
	if err != nil {
		return nil, err
	}
	until := time.Now().Add(startWait)
	for {
		conn, err := pgconn.ConnectConfig(ctx, config)
		switch {
		case err == nil:
			return conn, nil
		case hasCode(err, codeCannotConnectNow) && time.Now().Before(until) && pause(ctx, startPause):
			continue
		case !refused(err):
			return nil, fmt.Errorf("cannot connect as %s to %s: %w", config.User, config.Host, err)
		}
		if doubt := provenDown(config.Host, o.DataDirectory, recipe.ProcFS); doubt != nil {
			return nil, fmt.Errorf("no server answers at %s, but %w", address(config), doubt)
		}
		return nil, recipe.Inactive(fmt.Errorf("no server runs at %s", address(config)))
	}
}

// refused says whether nobody listens there.
func refused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}

// address is where a configuration leads, for messages.
func address(c *pgconn.Config) string {
	if strings.HasPrefix(c.Host, "/") {
		return filepath.Join(c.Host, fmt.Sprintf(".s.PGSQL.%d", c.Port))
	}
	return net.JoinHostPort(c.Host, fmt.Sprint(c.Port))
}

// pause waits, and is false if ctx ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func hasCode(err error, code string) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == code
}

// settings bounds the statements of a phase, a little below what Fermata grants,
// so that the server gives up first and the session lives on; and it keeps the
// server from ending a session that only waits.
func settings(ctx context.Context, conn *pgconn.PgConn, limit time.Duration) error {
	if limit == 0 {
		limit = defaultLimit
	}
	statement := max(1, (limit * 8 / 10).Milliseconds())
	_, err := query(ctx, conn, fmt.Sprintf("SET statement_timeout = %d; SET lock_timeout = %d; "+
		"SET idle_in_transaction_session_timeout = 0", statement, max(1, statement/2)))
	return err
}

// neverIdleOut turns off what would end the session, or its CHECKPOINT: the idle
// time-out of PostgreSQL 14 and newer, for the session that holds is idle by
// design, and that of transactions since 17; a phase has a limit of its own.
func neverIdleOut(ctx context.Context, conn *pgconn.PgConn, s server) error {
	statement := s.noTimeouts()
	if statement == "" {
		return nil
	}
	_, err := query(ctx, conn, statement)
	return err
}

func (s server) noTimeouts() string {
	switch {
	case s.version >= 170000:
		return "SET idle_session_timeout = 0; SET transaction_timeout = 0"
	case s.version >= 140000:
		return "SET idle_session_timeout = 0"
	}
	return ""
}

// query runs statements by the simple protocol, one round trip, and returns the
// rows of the last one as text.
func query(ctx context.Context, conn *pgconn.PgConn, sql string) ([][]string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	var rows [][]string
	if len(results) > 0 {
		for _, values := range results[len(results)-1].Rows {
			row := make([]string, len(values))
			for i, v := range values {
				row[i] = string(v)
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// granted explains a missing right and how to give it; other errors stay.
func granted(err error, remedy string) error {
	if hasCode(err, codeInsufficientPrivilege) {
		return fmt.Errorf("%w; %s", err, remedy)
	}
	return err
}

func checkpointRefused(s server, err error) error {
	remedy := "connect as a superuser"
	if s.version >= 150000 {
		remedy = fmt.Sprintf("GRANT pg_checkpoint TO %s", s.user)
	}
	return fmt.Errorf("cannot checkpoint: %w", granted(err, remedy))
}

// literal quotes a string for SQL.
func literal(s string) string {
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

var _ recipe.Recipe = (*writer)(nil)
