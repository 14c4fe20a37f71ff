// Package writers makes the writers that files declare, and knows those that services have registered on the bus: the bus
// fills the registry, the daemon looks them up.
//
// A registration is bound to the connection that made it, and ends with that. A writer of a set that is being taken keeps
// the registration that it began with: a service that comes back does not mend the hold that it lost.
package writers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/hooks"
)

const (
	// maxAll registrations, and maxEach of one connection.
	maxAll  = 256
	maxEach = 16
	// grace is what services get to register with a daemon that has just come to the bus.
	grace = 5 * time.Second
)

// Entry is one registration.
type Entry struct {
	Owner  string        // unique name of the connection
	Writer config.Writer // as the service declares it: of type dbus, required
	Remote hooks.Remote
}

// Registry holds the registrations. Make one with New.
type Registry struct {
	config *config.Config

	mu      sync.Mutex
	entries map[string]Entry // by the writer's name
	changed chan struct{}    // closed at a change, and made anew
	opened  time.Time
}

// New makes an empty registry. The configuration says which names are taken.
func New(c *config.Config) *Registry {
	return &Registry{config: c, entries: map[string]Entry{}, changed: make(chan struct{})}
}

// Open says that services can register from now on.
func (r *Registry) Open() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opened = time.Now()
	r.change()
}

// May says who, beside those whom the bus lets, may register a writer of that name: the user of its declaration, if that
// names one. The error is of class Refused if nobody may.
func (r *Registry) May(name string) (user string, err error) {
	w, err := r.config.Writer(name)
	switch {
	case errors.Is(err, config.ErrUnknown):
		return "", nil
	case err != nil:
		return "", api.Errorf(api.Refused, "cannot register writer %s: %w", name, err)
	case w.Type != config.WriterDBus:
		return "", api.Errorf(api.Refused, "cannot register writer %s: %s declares it with type: %s", name, w.File, w.Type)
	}
	return w.User, nil
}

// Register adds a registration, in place of an earlier one of the same connection.
func (r *Registry) Register(e Entry) error {
	name := e.Writer.Name
	if _, err := r.May(name); err != nil {
		return err
	}
	if _, err := hooks.NewRemote(Spec(e.Writer), nil); err != nil {
		return api.Errorf(api.Invalid, "%w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	own := 0
	for _, other := range r.entries {
		if other.Owner == e.Owner {
			own++
		}
	}
	old, taken := r.entries[name]
	switch {
	case taken && old.Owner != e.Owner && old.Remote.Gone() == nil:
		return api.Errorf(api.Refused, "cannot register writer %s: %s has registered it", name, old.Owner)
	case !taken && (len(r.entries) >= maxAll || own >= maxEach):
		return api.Errorf(api.Refused, "cannot register writer %s: %d are registered, %d of them by %s; %d and %d are allowed",
			name, len(r.entries), own, e.Owner, maxAll, maxEach)
	}
	r.entries[name] = e
	r.change()
	return nil
}

// Unregister ends a registration of a connection, and returns it.
func (r *Registry) Unregister(name, owner string) (Entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.entries[name]
	if !ok || e.Owner != owner {
		return Entry{}, api.Errorf(api.NotFound, "%s has registered no writer %q", owner, name)
	}
	delete(r.entries, name)
	r.change()
	return e, nil
}

// Forget removes a registration if it still stands.
func (r *Registry) Forget(e Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.entries[e.Writer.Name].Remote == e.Remote {
		delete(r.entries, e.Writer.Name)
		r.change()
	}
}

// List is all registrations, by name.
func (r *Registry) List() []Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.SortedFunc(maps.Values(r.entries), func(a, b Entry) int { return strings.Compare(a.Writer.Name, b.Writer.Name) })
}

// Lookup is the registration of a writer.
func (r *Registry) Lookup(name string) (Entry, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.entries[name]
	return e, ok
}

// Await is Lookup that gives services time to register: 5 s from when they first could.
func (r *Registry) Await(ctx context.Context, name string) (Entry, error) {
	for {
		r.mu.Lock()
		e, ok := r.entries[name]
		changed, left := r.changed, grace-time.Since(r.opened)
		r.mu.Unlock()
		if ok {
			return e, nil
		}
		if left <= 0 {
			return Entry{}, fmt.Errorf("no service has registered it on the bus: is it running, and may it register? (fermata writer list)")
		}
		select {
		case <-changed:
		case <-time.After(left):
		case <-ctx.Done():
			return Entry{}, context.Cause(ctx)
		}
	}
}

// NewWriter makes a writer of what a file, or a registration, declares.
func (r *Registry) NewWriter(c config.Writer) (hooks.Writer, error) {
	if c.Type != config.WriterDBus {
		return Declared(c)
	}
	return hooks.NewRemote(Spec(c), func(ctx context.Context) (hooks.Remote, error) {
		e, err := r.Await(ctx, c.Name)
		return e.Remote, err
	})
}

// change wakes who waits. The caller holds the lock.
func (r *Registry) change() {
	close(r.changed)
	r.changed = make(chan struct{})
}
