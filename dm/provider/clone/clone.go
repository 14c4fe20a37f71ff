// Package clone keeps full copies of snapshots in image files, which outlive the volumes that they were copied from.
//
// # On disk
//
// A clone of a set is a directory named after the clone's own id, with one image a volume:
//
//	DIRECTORY/ID/record.json   what it is, and its state; replaced as a whole
//	DIRECTORY/ID/0.img         the image, sparse: blocks of zeros are holes
//	DIRECTORY/ID/0.sum         32 bytes of SHA-256 for each extent of 4 MiB, in order
//
// An extent's sum is written only after the extent is on the disk: the length of the sums is how far the copy has got, and
// what a power cut leaves can be gone on with. The sums are of what was read from the snapshot. When all is copied the
// image is read back from the disk and compared with them, so that a clone is called complete only if the disk gives back
// what the snapshot held. The snapshot is read once only: it costs the pool that applications live on.
//
// The directory is root's, like every folder above it: what is read from it decides what is deleted.
//
// So that clones in any directory are found, an index directory holds a symbolic link to each, made before the copy
// begins. A lost index costs nothing for the directories that policies name. A clone whose record is lost or damaged is
// listed as lost: it takes room, and can be deleted.
package clone

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fermata-project/fermata/dm/provider"
)

// State of a clone.
type State string

const (
	Copying  State = "copying"  // or being verified; no snapshot yet
	Complete State = "complete" // verified
	Deleting State = "deleting" // nothing of it counts any more
	Damaged  State = "damaged"  // never saved: its record cannot be read
)

// Record is the document of one clone.
type Record struct {
	Version     int             `json:"version"` // of this format: 1
	ID          string          `json:"id"`      // the clone's own, as a set
	State       State           `json:"state"`
	Source      string          `json:"source"` // the set that it is a copy of
	Policy      string          `json:"policy,omitempty"`
	Consistency string          `json:"consistency,omitempty"`
	Created     int64           `json:"created_us"` // the instant that it shows, Unix microseconds
	Keep        bool            `json:"keep,omitempty"`
	Rate        uint64          `json:"rate_bytes,omitempty"` // a second; 0: no limit
	Volumes     []Volume        `json:"volumes"`
	Manifest    json.RawMessage `json:"manifest,omitempty"` // the set's document, of its owner's making

	dir    string
	unread error // why it is Damaged
}

// Volume is one image of a clone.
type Volume struct {
	File       string `json:"file"` // in the clone's directory
	Provider   string `json:"provider"`
	Snapshot   string `json:"snapshot"` // that it is a copy of, by the provider's name for it
	Origin     string `json:"origin"`
	MountPoint string `json:"mount_point,omitempty"`
	FSType     string `json:"fstype,omitempty"`
	Options    string `json:"options,omitempty"`
	Size       uint64 `json:"size_bytes"`
}

// Image is the path of a volume's image.
func (r Record) Image(i int) string { return filepath.Join(r.dir, r.Volumes[i].File) }

// Dir is the clone's directory.
func (r Record) Dir() string { return r.dir }

// Size is that of all volumes together, in bytes.
func (r Record) Size() (total uint64) {
	for _, v := range r.Volumes {
		total += v.Size
	}
	return total
}

const (
	recordName = "record.json"
	maxRecord  = 8 << 20 // bytes
)

// Store finds clones by an index directory, and in directories that are known to hold some.
type Store struct {
	Index string
	Known []string
	// Trust is nil for a folder that only root can change; a Store without it trusts every one.
	Trust func(dir string) error
}

// Usable is nil if clones can be kept below dir; real is its path without symbolic links.
func (s Store) Usable(dir string) (real string, err error) {
	if !filepath.IsAbs(dir) {
		return "", fmt.Errorf("cannot clone to %s: not an absolute path", dir)
	}
	if real, err = filepath.EvalSymlinks(dir); err == nil {
		err = s.trusted(dir)
	}
	if err != nil {
		return "", fmt.Errorf("cannot clone to %s: %w", dir, err)
	}
	return real, nil
}

func (s Store) trusted(dir string) error {
	if s.Trust == nil {
		return nil
	}
	return s.Trust(dir)
}

// Create makes the directory of a clone below dir and writes its record, in state Copying. What fails leaves nothing.
func (s Store) Create(dir string, r Record) (_ Record, err error) {
	real, err := s.Usable(dir)
	if err != nil {
		return r, err
	}
	if !provider.ValidID(r.ID) || !provider.ValidID(r.Source) {
		return r, fmt.Errorf("internal error: a clone %q of set %q", r.ID, r.Source)
	}
	r.Version, r.State, r.dir = 1, Copying, filepath.Join(real, r.ID)
	if err := os.MkdirAll(s.Index, 0o700); err != nil {
		return r, err
	}
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		return r, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Remove(r))
		}
	}()
	if err := os.Symlink(r.dir, s.link(r.ID)); err != nil {
		return r, err
	}
	return r, errors.Join(s.Save(r), syncDir(s.Index), syncDir(real))
}

func (s Store) link(id string) string { return filepath.Join(s.Index, id) }

// Save writes a record so that after a crash either the old one is there or the new one.
func (s Store) Save(r Record) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("internal error: cannot encode the record of clone %s: %w", r.ID, err)
	}
	name := filepath.Join(r.dir, recordName)
	f, err := makeFile(name + ".new")
	if err != nil {
		return fmt.Errorf("cannot save the record of clone %s: %w", r.ID, err)
	}
	if err = f.Truncate(0); err == nil { // of a daemon that died here
		_, err = f.Write(append(b, '\n'))
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		return fmt.Errorf("cannot save the record of clone %s: %w", r.ID, err)
	}
	return syncDir(r.dir)
}

// errUnlisted: nobody knows which clones there are.
var errUnlisted = errors.New("cannot list the clones")

// Load finds all clones. One whose record cannot be read comes as Damaged; what cannot be looked at is named in the error,
// and a link to nothing is neither.
func (s Store) Load() ([]Record, error) {
	linked := map[string]bool{} // by directory: whether the index has it
	links, err := os.ReadDir(s.Index)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", errUnlisted, err)
	}
	for _, l := range links {
		if dir, err := filepath.EvalSymlinks(s.link(l.Name())); err == nil {
			linked[dir] = true
		}
	}
	var errs []error
	for _, known := range s.Known {
		entries, err := os.ReadDir(known)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // else it is not mounted now
			errs = append(errs, fmt.Errorf("cannot look for clones in %s: %w", known, err))
		}
		for _, e := range entries {
			if dir, err := filepath.EvalSymlinks(filepath.Join(known, e.Name())); err == nil && e.IsDir() && !linked[dir] {
				linked[dir] = false
			}
		}
	}
	var out []Record
	for dir, sure := range linked {
		r, err := s.read(dir)
		if err != nil {
			r, err = s.damaged(dir, sure, err)
		}
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("cannot read the clone in %s: %w", dir, err))
		case r.ID != "":
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Record) int { return strings.Compare(a.ID, b.ID) })
	return out, errors.Join(errs...)
}

func (s Store) read(dir string) (r Record, err error) {
	b, err := readFile(filepath.Join(dir, recordName), maxRecord)
	if err == nil {
		err = s.trusted(dir)
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, err
	}
	return r, r.check(dir)
}

// check a record that a disk from elsewhere may hold: its files must lie in its directory, and it must name one set.
func (r *Record) check(dir string) error {
	if r.Version != 1 {
		return fmt.Errorf("version %d of its record is not known", r.Version)
	}
	if r.ID != filepath.Base(dir) || !provider.ValidID(r.ID) || !provider.ValidID(r.Source) || len(r.Volumes) == 0 {
		return fmt.Errorf("it speaks of clone %q of set %q, with %d volumes", r.ID, r.Source, len(r.Volumes))
	}
	for _, v := range r.Volumes {
		if v.File != filepath.Base(v.File) || !strings.HasSuffix(v.File, imageSuffix) {
			return fmt.Errorf("%q is no image's name", v.File)
		}
	}
	r.dir = dir
	return nil
}

const (
	imageSuffix = ".img"
	sumsSuffix  = ".sum"
)

// Remove deletes a clone's files and its directory. The record goes last: before that it can be done again.
func (s Store) Remove(r Record) error {
	var errs []error
	remove := func(name string) {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	for _, name := range r.files() {
		remove(filepath.Join(r.dir, name))
	}
	remove(filepath.Join(r.dir, recordName+".new"))
	if len(errs) == 0 {
		remove(filepath.Join(r.dir, recordName))
		remove(r.dir)
		remove(s.link(r.ID))
	}
	return errors.Join(errs...)
}

func sumsOf(image string) string { return strings.TrimSuffix(image, imageSuffix) + sumsSuffix }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
