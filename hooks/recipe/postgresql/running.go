package postgresql

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/fermata-project/fermata/hooks/recipe"
)

// serverNames are the names of a server's main process (/proc/PID/comm).
var serverNames = []string{"postgres", "postmaster"}

// provenDown is nil if no server can be behind an address where nobody listens:
// a socket that is missing may just as well be looked for in the wrong place.
// With a data directory its postmaster.pid decides; without, no process of this
// host may be a PostgreSQL server. The error says what speaks against it.
func provenDown(host, dataDirectory string, proc fs.FS) error {
	if !recipe.Local(host) {
		return fmt.Errorf("whether %s has a server cannot be seen from here", host)
	}
	if dataDirectory != "" {
		return noPostmaster(dataDirectory, proc)
	}
	pid, err := recipe.AnyProcess(proc, serverNames...)
	if err != nil {
		return err
	}
	if pid != 0 {
		return fmt.Errorf("process %d is a PostgreSQL server: name the right one with --dsn, "+
			"or this one's files with --data-directory", pid)
	}
	return nil
}

// noPostmaster is nil if the data directory has no postmaster.pid, or one whose
// process (its first line) is gone or is something else.
func noPostmaster(dataDirectory string, proc fs.FS) error {
	file, err := os.ReadFile(filepath.Join(dataDirectory, "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		_, err = os.Stat(dataDirectory)
		return err
	}
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(file), "\n")
	pid, err := strconv.ParseUint(strings.TrimSpace(first), 10, 31)
	if err != nil {
		return fmt.Errorf("%s/postmaster.pid cannot be understood: %w", dataDirectory, err)
	}
	if recipe.IsProcess(proc, strconv.FormatUint(pid, 10), serverNames...) {
		return fmt.Errorf("process %d serves %s", pid, dataDirectory)
	}
	return nil
}
