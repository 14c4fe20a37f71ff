package postgresql

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// place is a folder that has to be in the set.
type place struct {
	what string // for messages: "data directory"
	path string // without symbolic links
}

// places returns all folders that the server's recovery needs: first the data
// directory, then that of the write-ahead log, then the tablespaces.
func (s server) places(walDirectory string) ([]place, error) {
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
	found := []place{{"data directory", data}, {"write-ahead log", wal}}
	for _, t := range s.tablespaces {
		location := t.location
		if !filepath.IsAbs(location) { // made by allow_in_place_tablespaces
			location = filepath.Join(data, location)
		}
		if location, err = filepath.EvalSymlinks(location); err != nil {
			return nil, fmt.Errorf("cannot find tablespace %s: %w", t.name, err)
		}
		found = append(found, place{"tablespace " + t.name, location})
	}
	return found, nil
}

// checkPlaces is nil if each place is on the device of one of the volumes, which
// are mount points.
func checkPlaces(places []place, volumes []string, device func(string) (uint64, error)) error {
	inSet := map[uint64]bool{}
	for _, v := range volumes {
		d, err := device(v)
		if err != nil {
			return fmt.Errorf("cannot look at volume %s: %w", v, err)
		}
		inSet[d] = true
	}
	for _, p := range places {
		d, err := device(p.path)
		if err != nil {
			return fmt.Errorf("cannot look at the %s: %w", p.what, err)
		}
		if !inSet[d] {
			return fmt.Errorf("the %s %s is on none of the set's volumes (%s): add its volume to the policy, "+
				"or use --backup-mode and an archive of the write-ahead log", p.what, p.path, strings.Join(volumes, ", "))
		}
	}
	return nil
}

// deviceOf is the number of the device under a path (st_dev of stat(2)).
func deviceOf(path string) (uint64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return uint64(info.Sys().(*syscall.Stat_t).Dev), nil
}
