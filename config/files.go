package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/fermata-project/fermata/config/ownership"
)

// maxFiles is how many files of one .d folder are read.
const maxFiles = 1000

// source is one file as read, or the reason why not.
type source struct {
	path    string
	data    []byte
	changed time.Time // here, rather than where it was copied from
	err     error
}

// sources are all files of a configuration, those of a folder in the order of their names.
type sources struct {
	daemon                       []source // none or one
	policies, writers, providers []source
	programs                     []program
	problems                     Problems // of folders, and of files that are left out
}

// fileReader reads configuration files; root says whether they must be trusted ones.
type fileReader struct {
	root     bool
	problems Problems
}

// readAll reads the configuration in dir.
func readAll(dir string, root bool) sources {
	r := &fileReader{root: root}
	found := sources{
		policies:  r.folder(dir, "policies.d"),
		writers:   r.folder(dir, "writers.d"),
		providers: r.folder(dir, "providers.d"),
		programs:  r.programs(filepath.Join(dir, "providers.d"), VendorPlugins),
	}
	if s := r.file(filepath.Join(dir, "fermata.yaml"), r.trust(dir)); !errors.Is(s.err, fs.ErrNotExist) {
		found.daemon = []source{s}
	}
	found.problems = r.problems
	return found
}

// folder reads the *.yaml files in a .d folder but the hidden ones. A *.yml is most likely meant to
// be read, so it is warned of.
func (r *fileReader) folder(dir, name string) []source {
	path := filepath.Join(dir, name)
	entries, err := os.ReadDir(path) // in the order of their names
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		r.problem(path, SeverityError, "cannot read the folder: %v", cause(err))
		return nil
	}
	distrust := cmp.Or(r.trust(dir), r.trust(path))
	var found []source
	for _, e := range entries {
		file := filepath.Join(path, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."):
		case strings.HasSuffix(e.Name(), ".yml"):
			r.problem(file, SeverityWarning, "the file is ignored: rename it to end in .yaml")
		case !strings.HasSuffix(e.Name(), ".yaml"):
		case len(found) == maxFiles:
			r.problem(path, SeverityError, "too many files: those from %s on are ignored", quote(e.Name()))
			return found
		default:
			found = append(found, r.file(file, distrust))
		}
	}
	return found
}

// file reads one file, of which distrust says what is wrong with its folders. It never waits for a
// pipe, and what it checks is what it reads.
func (r *fileReader) file(path string, distrust error) source {
	s := source{path: path}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		s.err = fmt.Errorf("cannot read the file: %w", cause(err))
		if errors.Is(err, syscall.ELOOP) {
			s.err = errors.New("the file is a symbolic link: put a regular file in its place")
		}
		return s
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		s.err = fmt.Errorf("cannot read the file: %w", cause(err))
	case !info.Mode().IsRegular():
		s.err = errors.New("not a regular file")
	case r.root && distrust != nil:
		s.err = distrust
	case r.root:
		s.err = ownership.Opened(f)
	}
	if s.err != nil {
		return s
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.changed = time.Unix(st.Ctim.Unix())
	}
	s.data, err = io.ReadAll(io.LimitReader(f, maxFileSize+1))
	switch {
	case err != nil:
		s.err = fmt.Errorf("cannot read the file: %w", cause(err))
	case len(s.data) > maxFileSize:
		s.err = fmt.Errorf("the file is larger than %d MiB", maxFileSize>>20)
	}
	return s
}

// trust says why a folder is not to be believed.
func (r *fileReader) trust(dir string) error {
	if !r.root {
		return nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	return ownership.Directory(dir)
}

func (r *fileReader) problem(path string, s Severity, format string, args ...any) {
	r.problems = append(r.problems, Problem{File: path, Severity: s, Message: fmt.Sprintf(format, args...)})
}

// cause is an error without the path that the problem shows anyway.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}
