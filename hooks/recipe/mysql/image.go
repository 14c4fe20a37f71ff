package mysql

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

// image is a server's files in a snapshot that can be written to.
type image struct {
	server     // as prepare knew it
	program    string
	options    string // option file of the server; empty: those that it reads by itself
	credential *syscall.Credential
}

// openImage finds the server that a request of recover or verify is about, and makes sure that its files are not the live ones.
func openImage(ctx context.Context, o Options, r hooks.Request) (image, error) {
	i := image{options: o.ServerDefaultsFile, server: server{variables: map[string]string{}}}
	for _, name := range variables {
		if v, ok := r.Prepared[name].(string); ok {
			i.variables[name] = v
		}
	}
	if i.variables["datadir"] == "" {
		i.variables["datadir"] = o.DataDirectory
	}
	if i.variables["datadir"] == "" {
		return i, errors.New("nobody knows where the data directory is, for the server did not run: name it with --data-directory")
	}
	names := []string{"mariadbd", "mysqld"}
	if said, ok := r.Prepared["server_version"].(string); ok {
		parsed, err := parseVersion(said)
		if err != nil {
			return i, err
		}
		if !parsed.mariadb {
			names = []string{"mysqld"}
		}
	}
	found, err := i.settled()
	if err != nil {
		return i, err
	}
	below, err := scan(ctx, found[0].Path)
	if err != nil {
		return i, fmt.Errorf("cannot look into the data directory: %w", err)
	}
	if err := recipe.OnStage(append(found, below.places...)); err != nil {
		return i, err
	}
	if i.program, err = recipe.FindProgram(o.BinDirectory, names...); err != nil {
		return i, err
	}
	i.credential, err = recipe.OwnerOf(found[0].Path)
	return i, err
}

// kept are the settings that the server on the image has to have like the live one, or it does not find or does not
// understand its files. One that this version does not know is passed over ("loose").
var kept = []string{
	"datadir", "innodb_data_home_dir", "innodb_data_file_path", "innodb_log_group_home_dir", "innodb_undo_directory",
	"innodb_undo_tablespaces", "innodb_doublewrite_dir", "innodb_page_size", "aria_log_dir_path", "rocksdb_datadir", "rocksdb_wal_dir",
	"lower_case_table_names", "server_id", "log_bin_index", "relay_log_index",
}

// private are for a server that nobody but the recipe is to reach, and that reaches nobody, throws no log away and writes
// none elsewhere. What comes last counts, over all option files.
var private = []string{
	"skip-networking", "skip-grant-tables", "loose-mysqlx=OFF", "loose-wsrep-on=OFF", "loose-feedback=OFF",
	"loose-skip-slave-start", "loose-skip-replica-start", "event-scheduler=OFF",
	"loose-expire-logs-days=0", "loose-binlog-expire-logs-seconds=0", "loose-max-binlog-total-size=0",
	"general-log=OFF", "slow-query-log=OFF", "init-file=", "loose-performance-schema=OFF",
	"loose-large-pages=OFF", "innodb-buffer-pool-size=128M", "loose-innodb-buffer-pool-size-max=128M", "innodb-fast-shutdown=1",
	"loose-innodb-buffer-pool-load-at-startup=OFF", "loose-innodb-buffer-pool-dump-at-shutdown=OFF", // that list is the live server's
}

// arguments are those of the server on the image; top is a folder for what is none of the image.
func (i image) arguments(top string) []string {
	var args []string
	if i.options != "" {
		args = append(args, "--defaults-file="+i.options) // must be the first
	}
	option := func(name, value string) { args = append(args, "--"+strings.ReplaceAll(name, "_", "-")+"="+value) }
	for _, name := range kept {
		if v := i.variables[name]; v != "" {
			option("loose-"+name, v)
		}
	}
	// The binary log says which of the transactions that were being committed are to be.
	switch base := i.variables["log_bin_basename"]; {
	case i.set("log_bin") && base != "":
		option("log-bin", base)
	case i.variables["log_bin"] != "":
		args = append(args, "--skip-log-bin")
	}
	if base := i.variables["relay_log_basename"]; base != "" {
		option("relay-log", base)
	}
	for _, p := range private {
		args = append(args, "--"+p)
	}
	option("tmpdir", top)
	option("socket", filepath.Join(top, "socket"))
	option("pid-file", filepath.Join(top, "pid"))
	option("log-error", filepath.Join(top, "log.err"))
	return args
}

// stopLimit is how long a server may take to end that has nobody to serve.
const stopLimit = 5 * time.Minute

// serve starts a server on the image, waits until it has recovered from the crash that the image is, lets use have a session,
// and stops the server in an orderly way.
func (i image) serve(ctx context.Context, use func(*session) error) (err error) {
	top, err := os.MkdirTemp("", "fermata-mysql")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(top)) }()
	if c := i.credential; c != nil {
		if err := os.Chown(top, int(c.Uid), int(c.Gid)); err != nil {
			return err
		}
	}
	running, err := recipe.Program{Path: i.program, Args: i.arguments(top), Credential: i.credential}.Start()
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, running.Stop(unix.SIGTERM, stopLimit)); err != nil {
			err = fmt.Errorf("%w%s", err, lastWords(filepath.Join(top, "log.err")))
		}
	}()
	s, err := i.await(ctx, running, filepath.Join(top, "socket"))
	if err != nil {
		return err
	}
	return errors.Join(use(s), s.close())
}

// await waits until the server lets one in, which it does when it has recovered.
func (i image) await(ctx context.Context, running *recipe.Running, socket string) (*session, error) {
	config := mysql.NewConfig()
	config.User, config.Net, config.Addr, config.Logger = "root", "unix", socket, &mysql.NopLogger{}
	for {
		s, err := open(ctx, config)
		if err == nil {
			return s, nil
		}
		select {
		case <-running.Exited:
			_, ended := running.Wait(ctx)
			return nil, fmt.Errorf("the server did not recover: %w", errors.Join(ended, ctx.Err()))
		case <-ctx.Done():
			return nil, fmt.Errorf("the server has not recovered in time: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// maxLog is how much of a server's log is read, in bytes.
const maxLog = 1 << 20

// lastWords are what explains a failure in a server's log.
func lastWords(log string) string {
	f, err := os.OpenFile(log, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0) // its folder is the server's
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxLog))
	if err != nil {
		return ""
	}
	return explained(string(b))
}

// explained are the first errors of a log: what follows follows from them.
func explained(log string) string {
	var found []string
	for line := range strings.Lines(log) {
		if strings.Contains(line, "[ERROR]") || strings.Contains(line, "[FATAL]") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	if len(found) == 0 {
		return ""
	}
	const few = 4
	return fmt.Sprintf(" (its log: %s)", strings.Join(found[:min(few, len(found))], " | "))
}
