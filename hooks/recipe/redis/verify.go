package redis

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

var _ recipe.Verifier = (*writer)(nil)

// Verify has the server's own checkers read what a restart would load: the append-only file with all its parts, or the RDB
// file. There is nothing to recover.
func (w *writer) Verify(ctx context.Context, r hooks.Request) (map[string]any, error) {
	i, err := openImage(w.options, r)
	if err != nil {
		return nil, err
	}
	names := []string{"redis-" + i.check, "valkey-" + i.check} // either reads the other's files, of its age
	if r.Prepared["server"] == "valkey" {
		slices.Reverse(names)
	}
	program, err := recipe.FindProgram(w.options.BinDirectory, names...)
	if err != nil {
		return nil, err
	}
	owner, err := recipe.OwnerOf(i.file)
	if err != nil {
		return nil, err
	}
	if _, err := (recipe.Program{Path: program, Args: []string{i.file}, Credential: owner}).Run(ctx); err != nil {
		return nil, err
	}
	return map[string]any{"checks": []string{i.check}, "file": i.file}, nil
}

// image is what a restart would load, in a snapshot.
type image struct {
	file  string
	check string // the checker's name, without the server's
}

// openImage finds the file that a request of verify is about, and makes sure that it is not the live one.
func openImage(o Options, r hooks.Request) (image, error) {
	directory, _ := r.Prepared["directory"].(string)
	if directory == "" {
		directory = o.Directory
	}
	if directory == "" {
		return image{}, errors.New("nobody knows where the server's directory is, for the server did not run: name it with --directory")
	}
	found, err := filepath.EvalSymlinks(directory)
	if err != nil {
		return image{}, fmt.Errorf("cannot find the server's directory: %w", err)
	}
	if err := recipe.OnStage([]recipe.Place{{What: "directory", Path: found}}); err != nil {
		return image{}, err
	}
	if aof, ok := r.Prepared["aof_file"].(string); ok {
		return image{filepath.Join(found, aof), "check-aof"}, nil
	}
	if rdb, ok := r.Prepared["rdb_file"].(string); ok {
		return image{filepath.Join(found, rdb), "check-rdb"}, nil
	}
	// The server did not run, or an older recipe has asked it: what it has by default.
	for _, i := range []image{{"appendonlydir/appendonly.aof.manifest", "check-aof"}, {"appendonly.aof", "check-aof"}, {"dump.rdb", "check-rdb"}} {
		i.file = filepath.Join(found, i.file)
		if _, err := os.Stat(i.file); !errors.Is(err, fs.ErrNotExist) {
			return i, err
		}
	}
	return image{}, fmt.Errorf("%s has neither appendonlydir/appendonly.aof.manifest nor appendonly.aof nor dump.rdb", found)
}
