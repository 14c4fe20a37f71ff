package providertest

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
)

// Content is what a volume or a snapshot holds: names of files, and what is in them.
type Content map[string]string

// Storage is what a Fake makes its snapshots on. It outlives the Fake, as a disk outlives the daemon.
type Storage struct {
	mu      sync.Mutex
	origins map[dm.Dev]*origin
	images  map[string]*image // by name
	locked  bool
	changes int // counts what is added and removed, as the transaction id of a thin pool does
	full    bool
	sick    bool
	away    map[string]bool // names of origins
}

type origin struct {
	volume    provider.Volume
	content   Content
	suspended bool
}

type image struct {
	provider.Snapshot
	content Content // nil: armed, and not captured
	exposed bool
	open    bool // can be written to
}

// NewStorage makes an empty one.
func NewStorage() *Storage {
	return &Storage{origins: map[dm.Dev]*origin{}, images: map[string]*image{}, away: map[string]bool{}}
}

// Clone is what is left of the storage when everything that uses it dies: locks are gone, everything else is as it was.
func (s *Storage) Clone() *Storage {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := NewStorage()
	c.changes, c.full, c.sick, c.away = s.changes, s.full, s.sick, maps.Clone(s.away)
	for dev, o := range s.origins {
		c.origins[dev] = &origin{volume: o.volume, content: maps.Clone(o.content), suspended: o.suspended}
	}
	for name, i := range s.images {
		c.images[name] = &image{Snapshot: i.Snapshot, content: maps.Clone(i.content), exposed: i.exposed, open: i.open}
	}
	return c
}

// Add makes a volume.
func (s *Storage) Add(v provider.Volume) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.origins[v.Dev] = &origin{volume: v, content: Content{}}
}

// Put makes a snapshot, however finished, as a set of earlier days left it.
func (s *Storage) Put(snap provider.Snapshot, c Content) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.images[snap.Name] = &image{Snapshot: snap, content: c}
}

// Write changes a volume; a suspended one cannot be written.
func (s *Storage) Write(dev dm.Dev, key, value string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.origins[dev]
	if o.suspended {
		return fmt.Errorf("cannot write %s: it is suspended", o.volume.Name)
	}
	o.content[key] = value
	return nil
}

// Content of a volume.
func (s *Storage) Content(dev dm.Dev) Content {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.origins[dev].content)
}

// Suspended lists the volumes that are suspended.
func (s *Storage) Suspended() []dm.Dev {
	s.mu.Lock()
	defer s.mu.Unlock()
	var devs []dm.Dev
	for dev, o := range s.origins {
		if o.suspended {
			devs = append(devs, dev)
		}
	}
	slices.Sort(devs)
	return devs
}

// Suspend suspends a volume or resumes it, as somebody else could.
func (s *Storage) Suspend(dev dm.Dev, suspended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.origins[dev].suspended = suspended
}

// Locked tells whether a set holds the storage's lock.
func (s *Storage) Locked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.locked
}

// Fill leaves no room for snapshots; Break makes the storage lose writes.
func (s *Storage) Fill()  { s.mu.Lock(); defer s.mu.Unlock(); s.full = true }
func (s *Storage) Break() { s.mu.Lock(); defer s.mu.Unlock(); s.sick = true }

// Detach takes the snapshots of an origin out of sight, as if they were on a disk that is not attached, or brings them back.
func (s *Storage) Detach(origin string, away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away[origin] = away
}

// Remove removes a snapshot, as somebody else could.
func (s *Storage) Remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remove(name)
}

func (s *Storage) remove(name string) error {
	if s.images[name] == nil {
		return fmt.Errorf("cannot remove %s: it does not exist", name)
	}
	delete(s.images, name)
	s.changes++
	return nil
}

// Snapshots lists all, by name.
func (s *Storage) Snapshots() []provider.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []provider.Snapshot
	for _, name := range slices.Sorted(maps.Keys(s.images)) {
		if x := s.images[name].Snapshot; !s.away[x.Origin] {
			out = append(out, x)
		}
	}
	return out
}

// Exposed is what a device of Expose shows.
func (s *Storage) Exposed(path string) (Content, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.device(path)
	if err != nil {
		return nil, err
	}
	return maps.Clone(i.content), nil
}

// WriteExposed writes to such a device, which must be that of a throw-away copy, or of an opened snapshot.
func (s *Storage) WriteExposed(path, key, value string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.device(path)
	if err != nil {
		return err
	}
	if !i.Scratch && !i.open {
		return fmt.Errorf("cannot write to %s: it is read-only", path)
	}
	i.content[key] = value
	return nil
}

// open opens a captured snapshot, or seals it.
func (s *Storage) open(name string, open bool) error {
	i := s.images[name]
	if i == nil || i.content == nil {
		return fmt.Errorf("cannot open %s: it is not captured", name)
	}
	i.open, i.exposed = open, open
	return nil
}

// Unsealed lists the snapshots that can be written to, by name.
func (s *Storage) Unsealed() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, i := range s.images {
		if i.open {
			names = append(names, i.Name)
		}
	}
	slices.Sort(names)
	return names
}

// device gives the image that a device of Expose shows.
func (s *Storage) device(path string) (*image, error) {
	for _, i := range s.images {
		if i.exposed && devicePath(i.Name) == path {
			return i, nil
		}
	}
	return nil, fmt.Errorf("cannot open %s: no such device", path)
}

func devicePath(name string) string { return "/fake/" + name }
