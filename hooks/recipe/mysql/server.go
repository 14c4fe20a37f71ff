package mysql

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/fermata-project/fermata/hooks/recipe"
)

// server is what has to be known of a server.
type server struct {
	version      string // VERSION()
	mariadb      bool
	major, minor int
	user         string // CURRENT_USER(): whom the server takes the session for
	variables    map[string]string
}

// variables are the settings that are read; a server has those of its version.
var variables = []string{
	"aria_log_dir_path", "datadir", "gtid_mode", "hostname", "innodb_data_file_path", "innodb_data_home_dir",
	"innodb_doublewrite", "innodb_doublewrite_dir", "innodb_flush_log_at_trx_commit", "innodb_flush_method",
	"innodb_log_group_home_dir", "innodb_page_size", "innodb_undo_directory", "innodb_undo_tablespaces", "log_bin",
	"log_bin_basename", "log_bin_index", "log_error", "lower_case_table_names", "read_only", "relay_log_basename", "relay_log_index", "rocksdb_datadir", "rocksdb_wal_dir", "server_id", "server_uuid",
	"sync_binlog", "version_comment",
}

var versionNumber = regexp.MustCompile(`^(\d{1,4})\.(\d{1,4})\.`)

// inspect asks the session about its server.
func inspect(ctx context.Context, s *session) (server, error) {
	who, err := s.one(ctx, "SELECT VERSION() AS version, CURRENT_USER() AS user", "for the server's version")
	if err != nil {
		return server{}, err
	}
	found, err := parseVersion(who["version"])
	if err != nil {
		return server{}, err
	}
	found.user, found.variables = who["user"], map[string]string{}
	rows, err := s.query(ctx, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('"+strings.Join(variables, "', '")+"')")
	if err != nil {
		return server{}, fmt.Errorf("cannot read the server's settings: %w", err)
	}
	for _, r := range rows {
		found.variables[r["variable_name"]] = r["value"]
	}
	if found.variables["datadir"] == "" {
		return server{}, errors.New("the server does not say where its data directory is")
	}
	return found, nil
}

func parseVersion(text string) (server, error) {
	m := versionNumber.FindStringSubmatch(text)
	if m == nil {
		return server{}, fmt.Errorf("cannot understand the server's version %q", text)
	}
	major, _ := strconv.Atoi(m[1]) // digits, and few
	minor, _ := strconv.Atoi(m[2])
	return server{version: text, mariadb: strings.Contains(text, "MariaDB"), major: major, minor: minor}, nil
}

// atLeast compares the version.
func (s server) atLeast(major, minor int) bool {
	return s.major > major || s.major == major && s.minor >= minor
}

// set says whether a setting is on.
func (s server) set(name string) bool {
	v := s.variables[name]
	return v == "ON" || v == "1"
}

// granted explains a missing right and how to give it; other errors stay.
func (s server) granted(err error, rights string) error {
	if !hasNumber(err, errDBAccess, errAccess, errTableAccess, errColumnAccess, errSpecificAccess) {
		return err
	}
	name, host, _ := strings.Cut(s.user, "@")
	return fmt.Errorf("%w; GRANT %s ON *.* TO %s@%s", err, rights, literal(name), literal(host))
}

// literal quotes a string for SQL.
func literal(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(s) + "'"
}

// warnings says what does not hinder a set but should be known of it.
func (s server) warnings() []string {
	var w []string
	if v := s.variables["innodb_doublewrite"]; v == "OFF" || v == "0" {
		w = append(w, "innodb_doublewrite is off: a set taken without a filesystem freeze may have torn pages")
	}
	switch s.variables["innodb_flush_log_at_trx_commit"] {
	case "0": // no statement makes MariaDB 10.11 write its log: FLUSH ENGINE LOGS was seen not to
		w = append(w, "innodb_flush_log_at_trx_commit is 0: transactions acknowledged in the last second before the freeze "+
			"may be missing, as after a crash")
	case "2":
		w = append(w, "innodb_flush_log_at_trx_commit is 2: a set taken without a filesystem freeze may lack the last second's transactions")
	}
	if v := s.variables["innodb_flush_method"]; v == "nosync" || v == "littlesync" {
		w = append(w, "innodb_flush_method is "+v+": a set taken without a filesystem freeze may not be recoverable")
	}
	return w
}

// data is the server as the manifest has it.
func (s server) data(places []recipe.Place) map[string]any {
	data := map[string]any{"server_version": s.version, "user": s.user}
	for _, name := range variables {
		if v := s.variables[name]; v != "" {
			data[name] = v
		}
	}
	folders := map[string]any{}
	for i, p := range places { // the first is the data directory
		if i > 0 && strings.HasPrefix(p.Path+"/", places[0].Path+"/") {
			continue
		}
		if len(folders) < maxNamed {
			folders[p.What] = p.Path
		}
	}
	data["folders"] = folders
	return data
}

// maxNamed bounds the places outside the data directory that the manifest names:
// an answer has a greatest length. Those of the logs come first.
const maxNamed = 100
