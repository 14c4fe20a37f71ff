package clone

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// openFile opens a file of a clone. It follows no symbolic link, and takes regular files only.
func openFile(name string, flags int) (*os.File, error) {
	f, err := os.OpenFile(name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600) // a pipe is not waited for
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot use %s: %w", name, err), f.Close())
	}
	return f, nil
}

// makeFile opens a file of a clone to write to it, and makes it if it is not there.
func makeFile(name string) (*os.File, error) {
	f, err := openFile(name, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return openFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	}
	return f, err
}

// readFile reads a small file of a clone, of limit bytes at most.
func readFile(name string, limit int64) ([]byte, error) {
	f, err := openFile(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("it has more than %d bytes", limit)
	}
	return b, err
}
