package mysql

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fermata-project/fermata/hooks/recipe"
)

// files are what recovery needs, and what kind of tables there are.
type files struct {
	places []recipe.Place
	others bool // MySQL 8.0 and newer: there are tables of other engines than InnoDB
}

// directories are the settings that name folders; a value that is not absolute is
// relative to the data directory.
var directories = []struct{ setting, what string }{
	{"datadir", "data directory"},
	{"innodb_data_home_dir", "InnoDB's system tablespace"},
	{"innodb_log_group_home_dir", "InnoDB's log"},
	{"innodb_undo_directory", "InnoDB's undo tablespaces"},
	{"innodb_doublewrite_dir", "InnoDB's doublewrite buffer"},
	{"aria_log_dir_path", "Aria's log"},
	{"rocksdb_datadir", "MyRocks' files"},
	{"rocksdb_wal_dir", "MyRocks' log"},
}

// prefixes are settings that name files; what counts are their folders.
var prefixes = []struct{ setting, what string }{
	{"log_bin_basename", "binary log"},
	{"log_bin_index", "binary log's index"},
	{"relay_log_basename", "relay log"},
	{"relay_log_index", "relay log's index"},
}

// files finds all that the server's recovery needs: by its settings, by what is in
// the data directory, and what MySQL knows of tablespaces elsewhere.
func (w *writer) files(ctx context.Context) (files, error) {
	found, err := w.server.settled()
	if err != nil {
		return files{}, err
	}
	below, err := scan(ctx, found[0].Path)
	if err != nil {
		return files{}, fmt.Errorf("cannot look into the data directory: %w; run the writer as the server's user, or as root", err)
	}
	below.places = append(found, below.places...)
	if w.server.mariadb || !w.server.atLeast(8, 0) { // these leave links in the data directory
		return below, nil
	}
	elsewhere, err := w.tablespaces(ctx, found[0].Path)
	below.places = append(below.places, elsewhere...)
	return below, err
}

// settled returns the folders that the settings name, the data directory first.
func (s server) settled() ([]recipe.Place, error) {
	data, err := filepath.EvalSymlinks(s.variables["datadir"])
	if err != nil {
		return nil, fmt.Errorf("cannot find the data directory on this host: %w", err)
	}
	var found []recipe.Place
	add := func(what, path string) error {
		p, err := resolved(what, data, path)
		found = append(found, p)
		return err
	}
	for _, d := range directories {
		if v := s.variables[d.setting]; v != "" {
			err = errors.Join(err, add(d.what, v))
		}
	}
	for _, p := range prefixes {
		if v := s.variables[p.setting]; v != "" {
			err = errors.Join(err, add(p.what, filepath.Dir(v)))
		}
	}
	for _, file := range systemTablespace(s.variables["innodb_data_home_dir"], s.variables["innodb_data_file_path"]) {
		err = errors.Join(err, add("InnoDB's system tablespace "+filepath.Base(file), file))
	}
	return found, err
}

// systemTablespace returns the files of innodb_data_file_path
// ("ibdata1:12M;/more/ibdata2:10M:autoextend").
func systemTablespace(home, files string) []string {
	var out []string
	for spec := range strings.SplitSeq(files, ";") {
		name, _, _ := strings.Cut(strings.TrimSpace(spec), ":")
		switch {
		case name == "":
		case home == "" || filepath.IsAbs(name):
			out = append(out, name)
		default:
			out = append(out, filepath.Join(home, name))
		}
	}
	return out
}

// resolved is a place without symbolic links; of a file, its folder: on an overlay
// a file's device is not that of the mount.
func resolved(what, base, path string) (recipe.Place, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(base, path)
	}
	found, err := filepath.EvalSymlinks(path)
	if err != nil {
		return recipe.Place{}, fmt.Errorf("cannot find %s: %w", what, err)
	}
	info, err := os.Stat(found)
	if err != nil {
		return recipe.Place{}, fmt.Errorf("cannot look at %s: %w", what, err)
	}
	if !info.IsDir() {
		found = filepath.Dir(found)
	}
	return recipe.Place{What: what, Path: found}, nil
}

// scan looks through a data directory: its folders are databases, which may be
// links or mount points; a file of a table may be a link, and InnoDB's of a table
// elsewhere is named in a file .isl.
func scan(ctx context.Context, data string) (files, error) {
	var found files
	entries, err := os.ReadDir(data)
	for _, e := range entries {
		if err != nil || ctx.Err() != nil {
			break
		}
		if e.Name() == "lost+found" { // of a volume of its own; no database's folder has a + in its name
			continue
		}
		path := filepath.Join(data, e.Name())
		if !e.IsDir() && e.Type() != fs.ModeSymlink {
			continue
		}
		var place recipe.Place
		if place, err = resolved("file or folder "+e.Name()+" of the data directory", data, path); errors.Is(err, fs.ErrNotExist) {
			err = nil // dropped meanwhile, or a link that leads nowhere and serves nobody
			continue
		} else if err != nil {
			break
		}
		found.places = append(found.places, place)
		if info, statErr := os.Stat(path); statErr == nil && info.IsDir() {
			err = found.database(place.Path, e.Name())
		}
	}
	return found, errors.Join(err, ctx.Err())
}

// systemDatabases have tables that are no user's: that not all are InnoDB's does
// not matter.
var systemDatabases = map[string]bool{"mysql": true, "performance_schema": true, "sys": true}

// database adds what a database's folder has.
func (f *files) database(folder, name string) error {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // dropped meanwhile
	} else if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(folder, e.Name())
		what := "table file " + name + "/" + e.Name()
		switch {
		case e.IsDir() || e.Type() == fs.ModeSymlink:
		case strings.HasSuffix(e.Name(), ".isl"):
			if path, err = link(path); errors.Is(err, fs.ErrNotExist) {
				continue
			} else if err != nil {
				return err
			}
		default:
			// MySQL describes tables of other engines than InnoDB in such files.
			f.others = f.others || strings.HasSuffix(e.Name(), ".sdi") && !systemDatabases[name]
			continue
		}
		place, err := resolved(what, folder, path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		f.places = append(f.places, place)
	}
	return nil
}

// link returns the path in a file .isl.
func link(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	return strings.TrimSpace(string(b)), errors.Join(err, f.Close())
}

// tablespaces asks MySQL for the tablespaces outside the data directory.
func (w *writer) tablespaces(ctx context.Context, data string) ([]recipe.Place, error) {
	rows, err := w.hold.query(ctx, "SELECT FILE_NAME AS path FROM information_schema.FILES "+
		"WHERE FILE_TYPE IN ('TABLESPACE', 'UNDO LOG') AND FILE_NAME NOT LIKE './%'")
	if err != nil {
		return nil, fmt.Errorf("cannot list the tablespaces: %w", w.server.granted(err, "PROCESS"))
	}
	var found []recipe.Place
	for _, r := range rows {
		place, err := resolved("tablespace "+r["path"], data, r["path"])
		if err != nil {
			return nil, err
		}
		found = append(found, place)
	}
	return found, nil
}
