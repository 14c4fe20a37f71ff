package clone

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fermata-project/fermata/dm/provider"
)

// damaged is what a directory is whose record cannot be read, for that reason: a clone, if the index has it or an image is
// there. Otherwise it is something else, of which the error tells if it has such a file at all. A directory that is not
// root's alone is never believed to be a clone.
func (s Store) damaged(dir string, linked bool, why error) (Record, error) {
	id := filepath.Base(dir)
	_, err := os.Lstat(filepath.Join(dir, "0"+imageSuffix))
	image := err == nil
	switch missing := errors.Is(why, fs.ErrNotExist); {
	case missing && !image: // a crash came before the record, or it is another directory
		return Record{}, nil
	case !provider.ValidID(id) || !linked && !image || s.trusted(dir) != nil:
		if missing {
			why = nil
		}
		return Record{}, why
	}
	return Record{ID: id, State: Damaged, dir: dir, unread: why}, nil
}

// find is the clone in a directory that was listed before.
func (s Store) find(dir string) (Record, error) {
	r, err := s.read(dir)
	if err != nil {
		r, err = s.damaged(dir, true, err)
	}
	if err == nil && r.ID == "" {
		err = fs.ErrNotExist
	}
	return r, err
}

// files are the names of a clone's images and sums. Of a damaged one they are what lies in its directory by such names.
func (r Record) files() []string {
	var out []string
	for _, v := range r.Volumes {
		out = append(out, v.File, sumsOf(v.File))
	}
	if r.State != Damaged {
		return out
	}
	entries, _ := os.ReadDir(r.dir) // what is not seen keeps the directory from being removed, which is told
	for _, e := range entries {
		name := e.Name()
		stem, isImage := strings.CutSuffix(name, imageSuffix)
		if !isImage {
			stem, isImage = strings.CutSuffix(name, sumsSuffix)
		}
		if isImage && stem != "" && strings.Trim(stem, "0123456789") == "" {
			out = append(out, name)
		}
	}
	return out
}

// snapshots are what a clone is to the catalogue.
func (r Record) snapshots() []provider.Snapshot {
	var out []provider.Snapshot
	switch r.State {
	case Copying:
		return nil
	case Damaged:
		return []provider.Snapshot{{
			Provider: Name, Set: provider.Set{ID: r.ID, Members: 1}, Name: filepath.Join(r.dir, recordName), Origin: "unknown volumes",
			Invalid: fmt.Sprintf("cannot read %s: %v", filepath.Join(r.dir, recordName), r.unread),
		}}
	}
	for i, v := range r.Volumes {
		info, err := os.Lstat(r.Image(i))
		if err != nil && r.State == Complete {
			continue // the set has lost it
		}
		invalid := ""
		if err == nil && uint64(info.Size()) != v.Size {
			invalid = fmt.Sprintf("its image has %d bytes and had %d", info.Size(), v.Size)
		}
		out = append(out, provider.Snapshot{
			Provider: Name, Set: provider.Set{ID: r.ID, Policy: r.Policy, Members: len(r.Volumes)}, Name: r.Image(i), Origin: v.Origin,
			Armed: r.State == Deleting, MountPoint: v.MountPoint, FSType: v.FSType, Options: v.Options, Consistency: r.Consistency,
			Created: r.Created, Size: v.Size, Invalid: invalid,
		})
	}
	return out
}
