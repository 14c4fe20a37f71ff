package mongodb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fermata-project/fermata/hooks/recipe"
)

// rights is what a restricted user needs (MongoDB manual, "Built-In Roles").
const rights = "clusterMonitor and hostManager on admin: db.grantRolesToUser(NAME, ['clusterMonitor', 'hostManager'])"

// defaultPath is where a server without configuration has its files.
const defaultPath = "/data/db"

// server is what has to be known of a server.
type server struct {
	version     string
	engine      string // of storage
	replicaSet  string
	dbPath      string // as the server says it
	resolved    string // on this host, without symbolic links
	unjournaled bool
	identity    identity
}

// identity is who answers: a start of the server, and a connection of it.
type identity struct{ pid, connection int64 }

func (i identity) same(now identity) error {
	switch {
	case i.pid != now.pid:
		return errors.New("the server was restarted, or another one answers")
	case i.connection != now.connection:
		return fmt.Errorf("connection %d answers instead of %d: is there a proxy between? connect to the server itself", now.connection, i.connection)
	}
	return nil
}

// identify asks for the identity.
func identify(ctx context.Context, c *conn) (i identity, hello, status reply, err error) {
	if hello, err = c.run(ctx, document{{"hello", int32(1)}}); err != nil {
		return i, nil, nil, err
	}
	if hello.text("msg") == "isdbgrid" {
		return i, nil, nil, errors.New("this is mongos, which has no data: connect to each mongod")
	}
	status, err = c.run(ctx, document{{"serverStatus", int32(1)}, {"repl", int32(0)}, {"metrics", int32(0)}, {"locks", int32(0)}, {"wiredTiger", int32(0)}})
	if err != nil {
		return i, nil, nil, granted(err)
	}
	var errPID, errConnection error
	i.pid, errPID = status.number("pid")
	i.connection, errConnection = hello.number("connectionId")
	return i, hello, status, errors.Join(errPID, errConnection)
}

// inspect asks the connection about its server.
func inspect(ctx context.Context, c *conn) (server, error) {
	i, hello, status, err := identify(ctx, c)
	if err != nil {
		return server{}, err
	}
	options, err := c.run(ctx, document{{"getCmdLineOpts", int32(1)}})
	if err != nil {
		return server{}, granted(err)
	}
	storage := options.sub("parsed").sub("storage")
	s := server{identity: i, version: status.text("version"), engine: status.sub("storageEngine").text("name"),
		replicaSet: hello.text("setName"), dbPath: storage.text("dbPath")}
	if journal, set := storage.sub("journal")["enabled"]; set && journal == false {
		s.unjournaled = true
	}
	if s.dbPath == "" {
		s.dbPath = defaultPath
	}
	return s, nil
}

// serves is nil if a set of the files at one instant can be recovered.
func (s server) serves(locked bool) error {
	switch {
	case s.engine == "inMemory":
		return errors.New("the server keeps its data in memory: there is nothing to capture")
	case s.engine != "wiredTiger" && !locked:
		return fmt.Errorf("the storage engine %q is not known to recover from a power cut: use --lock", s.engine)
	case s.unjournaled && !locked:
		return errors.New("the server's journal is off (storage.journal.enabled): switch it on, or use --lock")
	}
	return nil
}

// places returns what recovery needs: the data directory, and the journal's, which
// may be a link to elsewhere.
func (s *server) places(directory string) ([]recipe.Place, error) {
	if directory == "" {
		directory = s.dbPath
	}
	resolved, err := filepath.EvalSymlinks(directory)
	if err != nil {
		return nil, fmt.Errorf("cannot find the server's data directory on this host: %w; "+
			"if it has another name here, name it with --directory", err)
	}
	s.resolved = resolved
	places := []recipe.Place{{What: "data directory", Path: resolved}}
	journal, err := filepath.EvalSymlinks(filepath.Join(resolved, "journal"))
	if errors.Is(err, fs.ErrNotExist) {
		return places, nil
	}
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("cannot see where the journal lies: %w; run as the user that owns the data directory", err)
	}
	return append(places, recipe.Place{What: "journal", Path: journal}), err
}

// data is the server as the manifest has it.
func (s server) data() map[string]any {
	data := map[string]any{"server_version": s.version, "storage_engine": s.engine, "data_directory": s.dbPath, "pid": s.identity.pid}
	if s.resolved != "" {
		data["data_directory"] = s.resolved
	}
	if s.replicaSet != "" {
		data["replica_set"] = s.replicaSet
	}
	return data
}

// granted explains a missing right and how to give it; other errors stay.
func granted(err error) error {
	if hasCode(err, codeUnauthorized) {
		return fmt.Errorf("%w; the user needs the roles %s", err, rights)
	}
	return err
}
