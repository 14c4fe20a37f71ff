// Package catalog knows which sets exist. The truth is in the LVM tags of the snapshots; the manifest in the state
// directory adds what tags cannot carry. A lost state directory loses no set, and a manifest without snapshots is no set.
package catalog

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm/provider"
)

// Contents is what the providers' snapshots amount to.
type Contents struct {
	// Sets are finished, oldest first. One that has lost a snapshot since is Damaged.
	Sets []api.Manifest
	// Half are snapshots of sets that were never finished, or whose deletion was not: they are to be removed.
	Half []provider.Snapshot
	// Elsewhere are the half-made snapshots and the throw-away copies of other hosts that see the same volumes: theirs to
	// remove, and perhaps about to be finished.
	Elsewhere []provider.Snapshot
	// Doubled are half-made snapshots that may be copies: a volume group was copied together with its tags while they were made,
	// and nobody can tell which of the two this host has left behind.
	Doubled []provider.Snapshot
	// Scratch are throw-away copies.
	Scratch []provider.Snapshot
	// Snapshots are those of finished sets, by set.
	Snapshots map[string][]provider.Snapshot
	// Unseen says of each set what of it may only be out of sight. Assemble does not know.
	Unseen map[string]error
}

// WellFormed sorts out snapshots that a provider cannot have taken for us: what lists them (the tags of a disk from elsewhere,
// a plug-in) need not be trusted with the paths that their names become.
func WellFormed(snaps []provider.Snapshot) (good []provider.Snapshot, err error) {
	var errs []error
	for _, s := range snaps {
		switch {
		case !provider.ValidID(s.Set.ID):
			errs = append(errs, fmt.Errorf("snapshot %q of provider %s is ignored: %q is no id of a set", s.Name, s.Provider, s.Set.ID))
		case s.MountPoint != "" && (!filepath.IsAbs(s.MountPoint) || filepath.Clean(s.MountPoint) != s.MountPoint):
			errs = append(errs, fmt.Errorf("snapshot %q of provider %s is ignored: %q is no mount point", s.Name, s.Provider, s.MountPoint))
		default:
			good = append(good, s)
		}
	}
	return good, errors.Join(errs...)
}

// Assemble sorts snapshots into sets. A set is finished if none of its snapshots is armed any more; the armed ones of a
// set make all of it half-made, because finishing goes snapshot by snapshot. What no host's tag stands on is ours, and what
// this machine's does: see provider.Host.
func Assemble(snaps []provider.Snapshot, manifests map[string]api.Manifest, machine string) Contents {
	c := Contents{Snapshots: map[string][]provider.Snapshot{}}
	armed, ours, doubled := map[string]bool{}, map[string]bool{}, twice(snaps)
	for _, s := range snaps {
		if s.Armed && !s.Scratch {
			armed[s.Set.ID] = true
			ours[s.Set.ID] = ours[s.Set.ID] || !foreign(s, machine) // this host has begun to delete it
		}
	}
	for _, s := range snaps {
		switch {
		case s.Scratch && foreign(s, machine), armed[s.Set.ID] && !s.Scratch && !ours[s.Set.ID]:
			c.Elsewhere = append(c.Elsewhere, s)
		case s.Scratch:
			c.Scratch = append(c.Scratch, s)
		case s.Armed && doubled[s.Set.ID]:
			c.Doubled = append(c.Doubled, s)
		case armed[s.Set.ID] && !doubled[s.Set.ID]:
			c.Half = append(c.Half, s)
		default:
			c.Snapshots[s.Set.ID] = append(c.Snapshots[s.Set.ID], s)
		}
	}
	for id, members := range c.Snapshots {
		m, known := manifests[id]
		if !known {
			m = fromTags(id, members, machine)
		}
		m.State = api.Complete
		if len(members) != members[0].Set.Members {
			m.State = api.Damaged
			m.Reasons = append(slices.Clone(m.Reasons), fmt.Sprintf("%d of %d snapshots exist", len(members), members[0].Set.Members))
		}
		m.Volumes = slices.Clone(m.Volumes)
		for _, s := range members {
			i := slices.IndexFunc(m.Volumes, func(v api.Snapshot) bool { return v.Name == s.Name })
			if i >= 0 {
				m.Volumes[i].Volatile, m.Volumes[i].Invalid = s.Volatile, s.Invalid
			}
			if s.Invalid != "" {
				m.State = api.Damaged
				m.Reasons = append(slices.Clone(m.Reasons), fmt.Sprintf("the snapshot of %s is lost: %s", s.Origin, s.Invalid))
			}
		}
		c.Sets = append(c.Sets, m)
	}
	slices.SortFunc(c.Sets, func(a, b api.Manifest) int { return strings.Compare(a.ID, b.ID) })
	return c
}

// twice are the sets that have more snapshots than volumes, or two of one volume.
func twice(snaps []provider.Snapshot) map[string]bool {
	out, count, seen := map[string]bool{}, map[string]int{}, map[[2]string]bool{}
	for _, s := range snaps {
		if s.Scratch {
			continue
		}
		id, of := s.Set.ID, [2]string{s.Set.ID, s.Origin}
		count[id]++
		out[id] = out[id] || seen[of] && s.Origin != "" || s.Set.Members > 0 && count[id] > s.Set.Members
		seen[of] = true
	}
	return out
}

func foreign(s provider.Snapshot, machine string) bool {
	return s.Machine != "" && s.Machine != machine
}

// created is a time that JSON can tell, from microseconds that anybody may have written: without that, one bad tag would take every
// listing down.
func created(micros int64) time.Time {
	if t := time.UnixMicro(micros).UTC(); t.Year() >= 1970 && t.Year() <= 9999 {
		return t
	}
	return time.UnixMicro(0).UTC() // the id tells the time too
}

// fromTags makes as much of a manifest as tags carry.
func fromTags(id string, members []provider.Snapshot, machine string) api.Manifest {
	first := members[0]
	why := "the manifest was lost; this is what the volumes' tags tell"
	if foreign(first, machine) {
		why = fmt.Sprintf("host %s took it, and has its manifest; this is what the volumes' tags tell", cmp.Or(first.Host, first.Machine))
	}
	m := api.Manifest{
		Version: 1, ID: id, Policy: first.Set.Policy, Host: cmp.Or(first.Host, first.Machine), Consistency: api.Consistency(first.Consistency),
		Created: created(first.Created),
		Reasons: []string{why},
		Lost:    !foreign(first, machine),
	}
	for _, s := range members {
		m.Volumes = append(m.Volumes, api.Snapshot{
			Volume: s.Origin, MountPoint: s.MountPoint, FSType: s.FSType, Size: s.Size, Provider: s.Provider, Name: s.Name, Omits: s.Omits,
			Frozen: m.Consistency != api.Crash && s.FSType != "",
		})
	}
	return m
}

// maxManifest bounds a manifest's file, in bytes.
const maxManifest = 4 << 20

// Store keeps manifests, one file a set.
type Store struct{ Dir string }

func (s Store) path(id string) string { return filepath.Join(s.Dir, id+".json") }

// Load reads all manifests. What cannot be read is left out and named in the error.
func (s Store) Load() (map[string]api.Manifest, error) {
	out := map[string]api.Manifest{}
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return out, fmt.Errorf("cannot read the manifests: %w", err)
	}
	var errs []error
	for _, e := range entries {
		id, found := strings.CutSuffix(e.Name(), ".json")
		if !found {
			continue
		}
		m, err := read(s.path(id))
		if err == nil && m.ID != id {
			err = fmt.Errorf("it speaks of set %q", m.ID)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot read %s: %w", s.path(id), err))
			continue
		}
		out[id] = m
	}
	return out, errors.Join(errs...)
}

func read(path string) (m api.Manifest, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return m, err
	}
	if st.Size() > maxManifest {
		return m, fmt.Errorf("%d bytes are more than a manifest has", st.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(b, &m)
}

// Save writes a manifest so that after a crash either all of it is there or nothing.
func (s Store) Save(m api.Manifest) (err error) {
	m.Mounts = nil
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("internal error: cannot encode a manifest: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot save the manifest of %s: %w", m.ID, err)
		}
	}()
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(s.Dir, "."+m.ID+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), s.path(m.ID))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(s.Dir)
}

// Remove forgets a manifest; one that is not there is no error.
func (s Store) Remove(id string) error {
	err := os.Remove(s.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
