package mysql

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/fermata-project/fermata/hooks/recipe"
)

// serverNames are the names of a server's process (/proc/PID/comm).
var serverNames = []string{"mariadbd", "mysqld"}

// provenDown is nil if no server can be behind an address where nobody listens:
// a socket that is missing may just as well be looked for in the wrong place.
// With a data directory the lock on its system tablespace decides; without, no
// process of this host may be a server. The error says what speaks against it.
func provenDown(dataDirectory string, proc fs.FS) error {
	if dataDirectory != "" {
		return unlocked(filepath.Join(dataDirectory, "ibdata1"))
	}
	pid, err := recipe.AnyProcess(proc, serverNames...)
	if err != nil {
		return err
	}
	if pid != 0 {
		return fmt.Errorf("process %d is a server: name the right socket with --socket, "+
			"or this server's files with --data-directory", pid)
	}
	return nil
}

// unlocked is nil if no process has a lock on a file: InnoDB locks its system
// tablespace for as long as it runs.
func unlocked(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart}
	if err := errors.Join(syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &lock), f.Close()); err != nil {
		return fmt.Errorf("cannot see whether %s is in use: %w", path, err)
	}
	if lock.Type != syscall.F_UNLCK {
		return fmt.Errorf("process %d serves %s", lock.Pid, filepath.Dir(path))
	}
	return nil
}
