package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/fsfreeze"
)

// mountRecord is what MountSet is about to mount, written before each mount(2) and removed when nothing of it is mounted
// any more. It stands in /run, so that it does not outlive the mounts. The mount table decides what of it is true: whoever
// unmounts by hand, or mounts something else at the path, needs not tell.
type mountRecord struct {
	Mounts []recordedMount `json:"mounts"`
	// User is whose use the mounts end with; nil: they stay until somebody unmounts them.
	User *user `json:"user,omitempty"`
}

// user is the process that a set is mounted for, told from a later one of the same number. Number 0: which it is is not known.
type user struct {
	PID     int    `json:"pid"`
	Started uint64 `json:"started"` // see Host.Started
}

type recordedMount struct {
	api.Mount
	Snapshot string `json:"snapshot"`
	Base     string `json:"base"` // directory that all mounts of the set lie below
	Dev      uint64 `json:"dev"`  // number of Device
}

func (d *Daemon) mountRecordPath(set string) string {
	return filepath.Join(d.o.RunDir, "mounts", set+".json")
}

// maxRecord bounds a record's file, in bytes.
const maxRecord = 4 << 20

// recordOf reads what of a set may be mounted; without a record nothing is.
func (d *Daemon) recordOf(set string) (mountRecord, error) {
	var r mountRecord
	f, err := os.Open(d.mountRecordPath(set))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("cannot read what is mounted of set %s: %w", set, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil && st.Size() > maxRecord {
		err = fmt.Errorf("it has %d bytes", st.Size())
	}
	if err == nil {
		err = json.NewDecoder(f).Decode(&r)
	}
	if err != nil {
		return mountRecord{}, fmt.Errorf("cannot read %s: %w (unmount what is left of the set, and remove the file)", f.Name(), err)
	}
	return r, nil
}

// saveRecord replaces a set's record; an empty one is removed.
func (d *Daemon) saveRecord(set string, r mountRecord) (err error) {
	path := d.mountRecordPath(set)
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot note what is mounted of set %s: %w", set, err)
		}
	}()
	if len(r.Mounts) == 0 {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// recordedSets lists the sets that have a record.
func (d *Daemon) recordedSets() []string {
	files, _ := filepath.Glob(d.mountRecordPath("*")) // the pattern is not malformed
	var out []string
	for _, f := range files {
		name := filepath.Base(f)
		out = append(out, name[:len(name)-len(".json")])
	}
	return out
}

// present are the mounts of a record that the mount table has: at that path, a filesystem on that device; and the raw
// devices that exist. Outer mounts come before inner ones.
func (r mountRecord) present(mounts []fsfreeze.Mount, exists func(recordedMount) bool) []recordedMount {
	var out []recordedMount
	filesystems := fsfreeze.Filesystems(mounts)
	for _, x := range r.Mounts {
		if x.Path == "" {
			if exists(x) {
				out = append(out, x)
			}
			continue
		}
		m, ok := fsfreeze.At(mounts, x.Path)
		f, known := fsfreeze.OnDevice(filesystems, x.Dev)
		if ok && known && m.Dev == f.Dev {
			out = append(out, x)
		}
	}
	slices.SortStableFunc(out, func(a, b recordedMount) int { return comparePaths(a.Path, b.Path) })
	return out
}

// mountsOf finds what of a set is mounted.
func (d *Daemon) mountsOf(set string) ([]recordedMount, error) {
	r, err := d.recordOf(set)
	if err != nil || len(r.Mounts) == 0 {
		return nil, err
	}
	mounts, err := d.o.Host.Mounts()
	if err != nil {
		return nil, err
	}
	return r.present(mounts, func(x recordedMount) bool {
		dev, err := d.number(x.Device)
		return err == nil && dev == x.Dev
	}), nil
}

// withMounts tells where a set is mounted, or why that is not known.
func (d *Daemon) withMounts(m *api.Manifest) {
	present, err := d.mountsOf(m.ID)
	if err != nil {
		m.Reasons = append(m.Reasons, fmt.Sprintf("where it is mounted is not known: %v", err))
	}
	m.Mounts = mountsIn(present)
}

func mountsIn(present []recordedMount) []api.Mount {
	var out []api.Mount
	for _, x := range present {
		out = append(out, x.Mount)
	}
	return out
}

// resumeMounts goes on from what a dead daemon had mounted: links that are gone are made again, and what is left of a set
// of which nothing is mounted any more is put away.
func (d *Daemon) resumeMounts(ctx context.Context, snaps map[string][]provider.Snapshot) error {
	var errs []error
	for _, set := range d.recordedSets() {
		present, err := d.mountsOf(set)
		if err == nil && len(present) == 0 {
			err = errors.Join(d.hideSet(ctx, set), d.saveRecord(set, mountRecord{}))
		}
		errs = append(errs, err)
		for _, x := range present {
			for _, s := range snaps[set] {
				if s.Name == x.Snapshot {
					errs = append(errs, d.link(s, x.Device))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// number is the device number of an exposed device.
func (d *Daemon) number(device string) (uint64, error) {
	dev, ok, err := d.o.Host.BlockDevice(device)
	if err == nil && !ok {
		err = unix.ENOTBLK
	}
	if err != nil {
		return 0, fmt.Errorf("cannot use %s: %w", device, err)
	}
	return dev, nil
}
