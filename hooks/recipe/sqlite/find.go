package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// besides are the endings of files that SQLite puts beside a database.
var besides = []string{"-journal", "-wal", "-shm"}

// find returns the databases' paths without symbolic links, sorted, each once.
// SQLite, too, puts journal and log beside the file that a link leads to.
func find(o Options) ([]string, error) {
	var paths []string
	for _, name := range o.Files {
		path, err := filepath.EvalSymlinks(name)
		if err != nil {
			return nil, fmt.Errorf("cannot find the database: %w", err)
		}
		paths = append(paths, path)
	}
	for _, pattern := range o.Patterns {
		found, err := match(pattern)
		if err != nil {
			return nil, err
		}
		paths = append(paths, found...)
	}
	slices.Sort(paths)
	paths = slices.Compact(paths)
	if len(paths) == 0 {
		return nil, fmt.Errorf("no database matches %s", strings.Join(o.Patterns, ", "))
	}
	if len(paths) > maxDatabases {
		return nil, fmt.Errorf("there are %d databases, more than %d: split them over several writers", len(paths), maxDatabases)
	}
	return paths, nil
}

// match returns what is found by a pattern and is a database.
func match(pattern string) ([]string, error) {
	names, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("bad pattern %s: %w", pattern, err)
	}
	var paths []string
	for _, name := range names {
		if slices.ContainsFunc(besides, func(end string) bool { return strings.HasSuffix(name, end) }) {
			continue
		}
		path, err := filepath.EvalSymlinks(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile, or a link to nowhere
		}
		if err != nil {
			return nil, err
		}
		is, err := isDatabase(path)
		if err != nil {
			return nil, err
		}
		if is {
			paths = append(paths, path)
		}
	}
	return paths, nil
}

// isDatabase says whether a file begins as a database does. An empty one, found
// by a pattern, is none.
func isDatabase(path string) (bool, error) {
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return false, ignoreGone(err)
	}
	f, err := open(path)
	if errors.Is(err, errNotSQLite) {
		return false, nil
	}
	if err != nil {
		return false, ignoreGone(err)
	}
	defer f.Close()
	_, err = readHeader(f)
	if errors.Is(err, errNotSQLite) {
		return false, nil
	}
	return err == nil, err
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
