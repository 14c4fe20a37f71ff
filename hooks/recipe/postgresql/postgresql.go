// Package postgresql is the recipe for PostgreSQL 10 and newer, primary or
// standby.
//
// # Why so little is needed
//
// PostgreSQL recovers from a power cut at any instant: what a transaction needs
// is in the write-ahead log, forced to disk before its commit is acknowledged,
// and no data page is written before the log that describes it. A snapshot set
// that has the data directory, all tablespaces and the write-ahead log at one
// instant is such a power cut. So the default neither blocks a client nor starts
// a backup: prepare runs a CHECKPOINT, so that recovery on the snapshot is short
// and the freeze has little to flush (on a standby that makes a restart point, from
// which its recovery begins); freeze notes the position in the log; thaw
// proves that the same server and the same session are still there. The writes
// themselves are held by the filesystem freeze.
//
// That reasoning has conditions, and prepare refuses when one is missing: fsync
// is on, and data directory, tablespaces and write-ahead log are all on volumes
// of the set. Torn pages are no condition: a filesystem freeze waits for every
// write(2) in progress. If full_page_writes is off, though, a set that was taken
// without a filesystem freeze could have some, so that is said as a warning.
//
// # Backup mode
//
// Where the conditions cannot be met, because the files are copied at different
// times, Options.BackupMode brackets the hold with pg_backup_start and
// pg_backup_stop (before PostgreSQL 15: pg_start_backup in non-exclusive form).
// The backup belongs to the session: if that ends, the server ends the backup by
// itself, and nothing is left behind. The label file and the tablespace map come
// back with thaw, for the manifest: to restore, they have to be written into the
// data directory as backup_label and tablespace_map, and the archived log has to
// be at hand (PostgreSQL manual, "Making a Base Backup Using the Low Level API").
package postgresql

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

// Options say which server, and how.
type Options struct {
	// DSN is a connection string or URL as libpq takes it; empty: DefaultDSN.
	DSN string
	// Service is a name in the connection service file, instead of DSN.
	Service string
	// BackupMode brackets the hold with pg_backup_start and pg_backup_stop.
	BackupMode bool
	// DataDirectory is where to look for postmaster.pid when the server does not
	// answer; empty: no postgres process at all may run for it to count as down.
	DataDirectory string
	// WALDirectory is where the write-ahead log lies, if the recipe may not read
	// that from the data directory.
	WALDirectory string
	// BinDirectory has the server's programs, for recover and verify; empty: where packages put them.
	BinDirectory string
	// Superuser is a role that may check everything, for verify; empty: postgres.
	Superuser string
}

// DefaultDSN is the local server by its socket, as the user that runs the recipe.
const DefaultDSN = "host=/var/run/postgresql"

const (
	connectTimeout = 10 * time.Second
	// startWait is how long a server that is starting up is waited for.
	startWait  = 30 * time.Second
	startPause = 500 * time.Millisecond
	// defaultLimit bounds statements when Fermata names no time limit.
	defaultLimit = time.Minute
	// maxLabel bounds label file and tablespace map together, in bytes: they must
	// fit whole into an answer, for a restore cannot do with less.
	maxLabel = hooks.MaxLine / 4
)

// writer is the recipe with its one session.
type writer struct {
	options Options
	conn    *pgconn.PgConn
	server  server
	held    position // zero: not frozen
}

// New returns the recipe. It fails if the options contradict each other.
func New(o Options) (recipe.Recipe, error) {
	if o.DSN != "" && o.Service != "" {
		return nil, errors.New("give either a connection string or a service, not both")
	}
	return &writer{options: o}, nil
}

func (w *writer) Prepare(ctx context.Context, r hooks.Request) (map[string]any, error) {
	var err error
	if w.conn, err = connect(ctx, w.options); err != nil {
		return nil, err
	}
	if w.server, err = inspect(ctx, w.conn, w.options.BackupMode); err != nil {
		return nil, err
	}
	warnings, err := w.conditions(r)
	if err != nil {
		return nil, err
	}
	if err := settings(ctx, w.conn, r.Timeout); err != nil {
		return nil, err
	}
	if _, err := query(ctx, w.conn, "CHECKPOINT"); err != nil { // on a standby: a restart point
		return nil, checkpointRefused(w.server, err)
	}
	data := w.server.data()
	data["backup_mode"] = w.options.BackupMode
	if len(warnings) > 0 {
		data["warnings"] = warnings
	}
	return data, nil
}

// conditions checks what the package comment names, and returns warnings.
func (w *writer) conditions(r hooks.Request) ([]string, error) {
	if w.options.BackupMode {
		return w.server.warnings(), nil
	}
	if !w.server.fsync {
		return nil, errors.New("fsync is off: the server does not promise that its files can be recovered; " +
			"set fsync = on in postgresql.conf")
	}
	named, err := recipe.NamesVolumes(r)
	if err != nil {
		return nil, err
	}
	if !named {
		return append(w.server.warnings(), recipe.Unchecked), nil
	}
	places, err := w.server.places(w.options.WALDirectory)
	if err != nil {
		return nil, err
	}
	err = recipe.CheckPlaces(places, r.Volumes)
	if errors.Is(err, recipe.ErrOutside) {
		return nil, fmt.Errorf("%w, or use --backup-mode and an archive of the write-ahead log", err)
	}
	if err != nil {
		return nil, err
	}
	w.server.walDirectory = places[1].Path
	return w.server.warnings(), nil
}

func (w *writer) Freeze(ctx context.Context, r hooks.Request) (map[string]any, error) {
	if w.conn == nil {
		return nil, errors.New("not prepared")
	}
	if err := settings(ctx, w.conn, r.Timeout); err != nil {
		return nil, err
	}
	if w.options.BackupMode {
		if _, err := query(ctx, w.conn, w.server.backupStart("fermata "+r.Set)); err != nil {
			return nil, fmt.Errorf("cannot start the backup: %w", err)
		}
	}
	at, err := locate(ctx, w.conn)
	if err != nil {
		return nil, err
	}
	w.held = at
	return at.data(), nil
}

func (w *writer) Thaw(ctx context.Context, r hooks.Request) (map[string]any, error) {
	held := w.held
	w.held = position{}
	if held == (position{}) {
		return nil, w.Close() // freeze failed: whatever it began ends with the session
	}
	at, err := w.prove(ctx, r, held)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", hooks.ErrHoldLost, err), w.Close())
	}
	data := at.data()
	if w.options.BackupMode {
		rows, err := query(ctx, w.conn, w.server.backupStop())
		if err == nil {
			err = backupData(rows, data)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%w: cannot stop the backup: %w", hooks.ErrHoldLost, err), w.Close())
		}
	}
	return data, nil
}

// prove asks the session who it is: the answer must be that of freeze.
func (w *writer) prove(ctx context.Context, r hooks.Request, held position) (position, error) {
	if err := settings(ctx, w.conn, r.Timeout); err != nil {
		return position{}, err
	}
	at, err := locate(ctx, w.conn)
	if err != nil {
		return position{}, err
	}
	return at, held.sameSession(at)
}

// backupData puts what pg_backup_stop returned into an answer.
func backupData(rows [][]string, data map[string]any) error {
	if len(rows) != 1 || len(rows[0]) != 3 {
		return errors.New("internal error: pg_backup_stop did not return one row of three columns")
	}
	lsn, label, tablespaces := rows[0][0], rows[0][1], rows[0][2]
	if size := len(label) + len(tablespaces); size > maxLabel {
		return fmt.Errorf("label file and tablespace map have %d bytes, more than the %d that fit into the manifest", size, maxLabel)
	}
	data["stop_lsn"], data["backup_label"], data["tablespace_map"] = lsn, label, tablespaces
	return nil
}

// Abort ends the session: a backup that was begun ends with it.
func (w *writer) Abort(context.Context, hooks.Request) error {
	w.held = position{}
	return w.Close()
}

func (w *writer) Post(context.Context, hooks.Request) (map[string]any, error) { return nil, nil }

func (w *writer) Close() error {
	if w.conn == nil || w.conn.IsClosed() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = w.conn.Close(ctx) // the goodbye may fail; the socket is closed either way
	return nil
}
