package postgresql

import (
	"fmt"
	"path/filepath"

	"github.com/fermata-project/fermata/hooks/recipe"
)

// places returns all folders that the server's recovery needs: first the data
// directory, then that of the write-ahead log, then the tablespaces.
func (s server) places(walDirectory string) ([]recipe.Place, error) {
	data, err := filepath.EvalSymlinks(s.dataDirectory)
	if err != nil {
		return nil, fmt.Errorf("cannot find the data directory on this host: %w", err)
	}
	if walDirectory == "" {
		walDirectory = filepath.Join(data, "pg_wal")
	}
	wal, err := filepath.EvalSymlinks(walDirectory)
	if err != nil {
		return nil, fmt.Errorf("cannot see where the write-ahead log lies: %w; "+
			"run as the user that owns the cluster, or name the folder with --wal-directory", err)
	}
	found := []recipe.Place{{What: "data directory", Path: data}, {What: "write-ahead log", Path: wal}}
	for _, t := range s.tablespaces {
		location := t.location
		if !filepath.IsAbs(location) { // made by allow_in_place_tablespaces
			location = filepath.Join(data, location)
		}
		if location, err = filepath.EvalSymlinks(location); err != nil {
			return nil, fmt.Errorf("cannot find tablespace %s: %w", t.name, err)
		}
		found = append(found, recipe.Place{What: "tablespace " + t.name, Path: location})
	}
	return found, nil
}
