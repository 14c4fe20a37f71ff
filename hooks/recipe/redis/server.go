package redis

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/fermata-project/fermata/hooks/recipe"
)

// rights is what a restricted user needs (Redis manual, "ACL").
const rights = "ACL SETUSER NAME +info +time +bgsave +config|get +config|set +client|id +client|pause +client|unpause +publish &" + channel

// server is what has to be known of a server.
type server struct {
	name      string // redis or valkey
	version   string
	runID     string // new with each start
	role      string // master or slave, in the server's own words
	directory string // as the server says it
	resolved  string // on this host, without symbolic links
	rdb       string // name of the RDB file in directory
	appending bool   // it has an append-only file
	aof       string // name of that in directory; of its parts' manifest, if it has parts
	fsync     string // appendfsync
	loading   bool
}

// info is the answer of INFO: its fields by name.
type info map[string]string

// askInfo asks for one section of INFO.
func askInfo(ctx context.Context, c *conn, section string) (info, error) {
	text, err := c.text(ctx, "INFO", section)
	if err != nil {
		return nil, err
	}
	return parseInfo(text), nil
}

func parseInfo(text string) info {
	fields := info{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok && !strings.HasPrefix(line, "#") {
			fields[name] = value
		}
	}
	return fields
}

// number is a field as a number; a field that is missing or is none is an error,
// so that nothing is concluded from what the server did not say.
func (i info) number(name string) (int64, error) {
	n, err := strconv.ParseInt(i[name], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("INFO has no number %s: %w", name, err)
	}
	return n, nil
}

// inspect asks the connection about its server, and refuses what cannot be served.
func inspect(ctx context.Context, c *conn) (server, error) {
	general, err := askInfo(ctx, c, "server")
	if err != nil {
		return server{}, granted(err)
	}
	s := server{name: "redis", version: general["redis_version"], runID: general["run_id"]}
	if v := general["valkey_version"]; v != "" {
		s.name, s.version = "valkey", v
	}
	if general["redis_mode"] == "sentinel" {
		return server{}, errors.New("this is a sentinel, which has no data")
	}
	if s.runID == "" {
		return server{}, errors.New("the server does not say its run_id, by which it would be known again")
	}
	if !atLeast(general["redis_version"], 6, 2) {
		return server{}, fmt.Errorf("the server is Redis %s: 6.2 or newer is needed, which can pause writes alone", s.version)
	}
	persistence, err := askInfo(ctx, c, "persistence")
	if err != nil {
		return server{}, err
	}
	s.loading = persistence["loading"] == "1"
	replication, err := askInfo(ctx, c, "replication")
	if err != nil {
		return server{}, err
	}
	s.role = replication["role"]
	for name, value := range map[string]*string{"dir": &s.directory, "dbfilename": &s.rdb, "appendfsync": &s.fsync} {
		if *value, err = setting(ctx, c, name); err != nil {
			return server{}, err
		}
	}
	appending, err := setting(ctx, c, "appendonly")
	if s.appending = appending == "yes"; err != nil || !s.appending {
		return s, err
	}
	if s.aof, err = setting(ctx, c, "appendfilename"); err != nil || !atLeast(general["redis_version"], 7, 0) {
		return s, err
	}
	folder, err := setting(ctx, c, "appenddirname")
	s.aof = filepath.Join(folder, s.aof+".manifest")
	return s, err
}

// same is nil if the section "server" of INFO is of the same start of the server.
func (s server) same(now info) error {
	if now["run_id"] != s.runID {
		return errors.New("the server was restarted, or another one answers")
	}
	return nil
}

// setting asks for one setting of the configuration.
func setting(ctx context.Context, c *conn, name string) (string, error) {
	reply, err := c.do(ctx, "CONFIG", "GET", name)
	if err != nil {
		return "", fmt.Errorf("cannot read the setting %s: %w", name, granted(err))
	}
	pair, ok := reply.([]any)
	if !ok || len(pair) != 2 {
		return "", fmt.Errorf("the server has no setting %s", name)
	}
	value, ok := pair[1].(string)
	if !ok {
		return "", fmt.Errorf("the setting %s is no string", name)
	}
	return value, nil
}

// atLeast compares a version, which is numbers joined by points.
func atLeast(version string, major, minor int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	a, errA := strconv.Atoi(parts[0])
	b, errB := strconv.Atoi(parts[1])
	return errA == nil && errB == nil && (a > major || a == major && b >= minor)
}

// granted explains a missing right and how to give it; other errors stay.
func granted(err error) error {
	switch {
	case hasCode(err, "NOPERM"):
		return fmt.Errorf("%w; the user needs: %s", err, rights)
	case hasCode(err, "NOAUTH"):
		return fmt.Errorf("%w; name a file that has the password with --password-file", err)
	}
	return err
}

// places returns what recovery needs. Everything lies below one directory.
func (s *server) places(directory string) ([]recipe.Place, error) {
	if directory == "" {
		directory = s.directory
	}
	resolved, err := filepath.EvalSymlinks(directory)
	if err != nil {
		return nil, fmt.Errorf("cannot find the server's directory on this host: %w; "+
			"if it has another name here, name it with --directory", err)
	}
	s.resolved = resolved
	return []recipe.Place{{What: "directory", Path: resolved}}, nil
}

// data is the server as the manifest has it.
func (s server) data() map[string]any {
	data := map[string]any{
		"server":         s.name,
		"server_version": s.version,
		"run_id":         s.runID,
		"role":           s.role,
		"directory":      s.directory,
		"appendonly":     s.appending,
	}
	if s.resolved != "" {
		data["directory"] = s.resolved
	}
	if s.appending {
		data["appendfsync"], data["aof_file"] = s.fsync, s.aof
	} else {
		data["rdb_file"] = s.rdb
	}
	return data
}
