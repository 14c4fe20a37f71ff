package postgresql

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

// image is a cluster's files in a snapshot that can be written to.
type image struct {
	data      string
	version   int    // major
	programs  string // folder of the server's programs
	config    string // file; empty: the one in the data directory
	standby   bool
	superuser string
}

// signals make a server that starts a standby, or have it recover from an archive.
var signals = []string{"standby.signal", "recovery.signal"}

// openImage finds the cluster that a request of recover or verify is about, and makes sure that it is not the live one.
func openImage(o Options, r hooks.Request) (image, error) {
	i := image{data: o.DataDirectory, superuser: o.Superuser}
	if said, ok := r.Prepared["data_directory"].(string); ok {
		i.data = said
	}
	if i.data == "" {
		return i, errors.New("nobody knows where the data directory is, for the server did not run: name it with --data-directory")
	}
	tablespaces, err := linkedTablespaces(i.data)
	if err != nil {
		return i, err
	}
	places, err := server{dataDirectory: i.data, tablespaces: tablespaces}.places(o.WALDirectory)
	if err != nil {
		return i, err
	}
	if err := recipe.OnStage(places); err != nil {
		return i, err
	}
	text, err := os.ReadFile(filepath.Join(i.data, "PG_VERSION"))
	if err != nil {
		return i, err
	}
	if i.version, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
		return i, fmt.Errorf("cannot understand PG_VERSION in %s: %w", i.data, err)
	}
	if i.version < 12 {
		return i, fmt.Errorf("the cluster in %s is of PostgreSQL %d: 12 or newer is needed", i.data, i.version)
	}
	if i.programs, err = programFolder(o.BinDirectory, i.version); err != nil {
		return i, err
	}
	if said, ok := r.Prepared["config_file"].(string); ok && filepath.Dir(said) != i.data {
		i.config = said
	}
	for _, name := range signals {
		_, err := os.Stat(filepath.Join(i.data, name))
		i.standby = i.standby || err == nil
	}
	return i, nil
}

// linkedTablespaces are those outside the data directory, as it links to them.
func linkedTablespaces(data string) ([]tablespace, error) {
	entries, err := os.ReadDir(filepath.Join(data, "pg_tblspc"))
	if err != nil {
		return nil, fmt.Errorf("cannot list the tablespaces: %w", err)
	}
	var found []tablespace
	for _, e := range entries {
		found = append(found, tablespace{name: e.Name(), location: filepath.Join(data, "pg_tblspc", e.Name())})
	}
	return found, nil
}

// programFolder is where a server's programs are: as named, or where Debian's and Red Hat's packages have them.
func programFolder(named string, version int) (string, error) {
	folders := []string{fmt.Sprintf("/usr/lib/postgresql/%d/bin", version), fmt.Sprintf("/usr/pgsql-%d/bin", version), "/usr/bin"}
	if named != "" {
		folders = []string{named}
	}
	for _, f := range folders {
		if _, err := os.Stat(filepath.Join(f, "postgres")); err == nil {
			return f, nil
		}
	}
	return "", fmt.Errorf("the programs of PostgreSQL %d are not in %s: name their folder with --bin-directory", version, strings.Join(folders, ", "))
}

// settings are for a server that nobody but the recipe is to reach, and that reaches nobody.
func (i image) settings(socket string) []string {
	args := []string{"-D", i.data, "-c", "data_directory=" + i.data}
	if i.config != "" {
		args = append(args, "-c", "config_file="+i.config)
	}
	set := []string{
		"listen_addresses=", "unix_socket_directories=" + socket, "port=5432", "ssl=off", "external_pid_file=",
		"logging_collector=off", "log_destination=stderr",
		"archive_mode=off", "restore_command=", "primary_conninfo=", "autovacuum=off",
		"huge_pages=off", "shared_buffers=128MB",
	}
	if i.version < 15 {
		set = append(set, "stats_temp_directory=pg_stat_tmp") // Debian has it below /run
	}
	for _, s := range set { // what comes last counts
		args = append(args, "-c", s)
	}
	return args
}

// recover starts the server in single-user mode, in which it recovers from the crash that the image is, does what it is
// told on its standard input, which is nothing, and shuts down (as pg_rewind does: ensureCleanShutdown). There is no
// socket, and no process beside it. unsafe spares the writing out of what will be thrown away.
func (i image) recover(ctx context.Context, unsafe bool) error {
	// It names the live server, which would count as running here.
	if err := remove(filepath.Join(i.data, "postmaster.pid")); err != nil {
		return err
	}
	args := append([]string{"--single"}, i.settings("/tmp")...)
	if unsafe {
		args = append(args, "-F")
	}
	if _, err := i.run(ctx, "postgres", append(args, "template1")...); err != nil {
		return fmt.Errorf("the server did not recover: %w", err)
	}
	state, err := i.control(ctx)
	if err != nil {
		return err
	}
	if s := state["Database cluster state"]; s != "shut down" {
		return fmt.Errorf("the server did not recover: pg_controldata calls its state %q", s)
	}
	return nil
}

// control is what pg_controldata says.
func (i image) control(ctx context.Context) (map[string]string, error) {
	out, err := i.run(ctx, "pg_controldata", "-D", i.data)
	if err != nil {
		return nil, err
	}
	state := map[string]string{}
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(line, ":")
		state[name] = strings.TrimSpace(value)
	}
	return state, nil
}

// run runs one of the server's programs to its end.
func (i image) run(ctx context.Context, program string, args ...string) (string, error) {
	return i.program(program, args...).Run(ctx)
}

// program is one of the server's. A server ends with all its processes by SIGQUIT.
func (i image) program(name string, args ...string) recipe.Program {
	return recipe.Program{Path: filepath.Join(i.programs, name), Args: args, Orphaned: unix.SIGQUIT}
}
