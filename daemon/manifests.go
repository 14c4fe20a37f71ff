package daemon

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/catalog"
)

// manifests are what the state directory adds to the tags. It may be full, read-only or damaged: sets are taken, listed and
// deleted all the same, for the tags are the truth. What could not be written is kept in memory and tried again with the
// next change.
type manifests struct {
	store catalog.Store

	mu      sync.Mutex
	pending map[string]pendingManifest
	unread  error // why not all could be read the last time
	wrong   atomic.Pointer[[]string]
}

// pendingManifest is one that could not be saved, or, without a manifest, not be removed.
type pendingManifest struct {
	manifest *api.Manifest
	err      error
}

// Save writes a manifest, now or later.
func (s *manifests) Save(m api.Manifest) error {
	m.Reasons = slices.Clone(m.Reasons)
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.note()
	return s.try(m.ID, &m)
}

// Remove forgets a manifest, now or later.
func (s *manifests) Remove(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.note()
	return s.try(id, nil)
}

// try saves or removes one, with s.mu held.
func (s *manifests) try(id string, m *api.Manifest) (err error) {
	if m != nil {
		err = s.store.Save(*m)
	} else if err = s.store.Remove(id); err != nil {
		err = fmt.Errorf("cannot remove the manifest of %s: %w", id, err)
	}
	delete(s.pending, id)
	if err != nil {
		if s.pending == nil {
			s.pending = map[string]pendingManifest{}
		}
		s.pending[id] = pendingManifest{m, err}
	}
	return err
}

// Load reads all manifests, as far as they can be read, after another try to write what is pending.
func (s *manifests) Load() map[string]api.Manifest {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.note()
	for id, p := range maps.Clone(s.pending) {
		_ = s.try(id, p.manifest) // problems tells
	}
	var found map[string]api.Manifest
	found, s.unread = s.store.Load()
	for id, p := range s.pending {
		if delete(found, id); p.manifest != nil {
			found[id] = *p.manifest
		}
	}
	return found
}

// problems are what was wrong with the state directory the last time, each once. It never waits: the disk may, and the
// status page asks.
func (s *manifests) problems() []string {
	if wrong := s.wrong.Load(); wrong != nil {
		return *wrong
	}
	return nil
}

// note notes the problems, with s.mu held.
func (s *manifests) note() {
	var out []string
	for _, id := range slices.Sorted(maps.Keys(s.pending)) {
		out = append(out, s.pending[id].err.Error()+"; it is tried again with the next change")
	}
	if s.unread != nil {
		for _, line := range strings.Split(s.unread.Error(), "\n") {
			out = append(out, line+" (until that is mended or removed, the volumes' tags tell what they can)")
		}
	}
	s.wrong.Store(&out)
}
