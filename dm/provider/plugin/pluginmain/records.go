package pluginmain

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fermata-project/fermata/dm/provider/plugin/protocol"
)

// Records keeps what a plug-in must remember of its snapshots, one file each, for storage that cannot. A record is written
// before what it speaks of exists, and goes after that has gone: so nothing can be left that nobody knows.
type Records struct{ Dir string }

// Record is a snapshot and where it belongs, in the plug-in's own terms.
type Record struct {
	Home     string            `json:"home,omitempty"`
	Snapshot protocol.Snapshot `json:"snapshot"`
}

// maxRecord bounds a record's file, in bytes.
const maxRecord = 64 << 10

const suffix = ".json"

// Put writes a record durably, as a whole or not at all.
func (r Records) Put(key string, x Record) (err error) {
	data, err := json.Marshal(x)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(r.Dir, ".new-*")
	if err != nil {
		return fmt.Errorf("cannot write a record: %w", err)
	}
	defer os.Remove(f.Name()) // gone by then, unless something failed
	_, err = f.Write(append(data, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cannot write a record: %w", err)
	}
	if err := os.Rename(f.Name(), filepath.Join(r.Dir, key+suffix)); err != nil {
		return err
	}
	return r.sync()
}

// Remove removes a record, if there is one.
func (r Records) Remove(key string) error {
	if err := os.Remove(filepath.Join(r.Dir, key+suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return r.sync()
}

func (r Records) sync() error {
	d, err := os.Open(r.Dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Get reads a record; the error is fs.ErrNotExist if there is none.
func (r Records) Get(key string) (x Record, err error) {
	f, err := os.Open(filepath.Join(r.Dir, key+suffix))
	if err != nil {
		return x, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err == nil {
		err = json.Unmarshal(data, &x)
	}
	if err != nil {
		return x, fmt.Errorf("cannot read record %s: %w", f.Name(), err)
	}
	return x, nil
}

// All reads all records by their keys. What cannot be read is left out and named in the error.
func (r Records) All() (map[string]Record, error) {
	entries, err := os.ReadDir(r.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	errs := []error{err}
	all := map[string]Record{}
	for _, e := range entries {
		key, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok || strings.HasPrefix(key, ".") || !e.Type().IsRegular() {
			continue
		}
		x, err := r.Get(key)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has just gone
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all[key] = x
	}
	return all, errors.Join(errs...)
}
