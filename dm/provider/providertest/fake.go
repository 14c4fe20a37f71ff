package providertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
)

// Fake is a provider in memory. It passes the suite, so that what is tested with it (the transaction, say) is tested
// with a provider that behaves as every provider must.
type Fake struct {
	Storage *Storage
	// Label is the provider's name.
	Label string
	// Via is how every call but Claim has its effect: a test that wants a call to fail, or to be noted, brings its own.
	// The name of a call is the method's.
	Via func(call string, effect func() error) error
}

// NewFake makes a fake provider.
func NewFake(label string, s *Storage) *Fake {
	return &Fake{Storage: s, Label: label, Via: func(_ string, effect func() error) error { return effect() }}
}

// via has an effect while nobody else uses the storage.
func (f *Fake) via(call string, effect func() error) error {
	return f.Via(call, func() error {
		f.Storage.mu.Lock()
		defer f.Storage.mu.Unlock()
		return effect()
	})
}

// change is via for what a provider does by a command, which a context can end, and for which the lock must be free: it
// would wait for it for ever.
func (f *Fake) change(ctx context.Context, call string, effect func() error) error {
	return f.via(call, func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if f.Storage.locked {
			return fmt.Errorf("internal error: %s inside the lock", call)
		}
		return effect()
	})
}

func (f *Fake) Name() string        { return f.Label }
func (f *Fake) Kind() provider.Kind { return provider.BuiltIn }

// Claim takes the volumes of its storage. It changes nothing, and is not called by Via: a failure is an answer.
func (f *Fake) Claim(v provider.Volume) (provider.Claim, error) {
	f.Storage.mu.Lock()
	defer f.Storage.mu.Unlock()
	o := f.Storage.origins[v.Dev]
	if o == nil {
		return provider.Claim{}, errors.New("not a volume of this storage")
	}
	return provider.Claim{Name: o.volume.Name}, nil
}

func (f *Fake) Admit(_ context.Context, _ []provider.Volume) error {
	return f.via("Admit", func() error {
		if f.Storage.full {
			return fmt.Errorf("%w: %s is full", provider.ErrNoRoom, f.Label)
		}
		return f.Storage.healthy()
	})
}

func (s *Storage) healthy() error {
	if s.sick {
		return fmt.Errorf("%w: it has lost writes", provider.ErrPool)
	}
	return nil
}

// Snapshots lists the provider's own.
func (f *Fake) Snapshots(ctx context.Context) ([]provider.Snapshot, error) {
	var out []provider.Snapshot
	err := f.Via("Snapshots", func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, s := range f.Storage.Snapshots() {
			if s.Provider == f.Label {
				out = append(out, s)
			}
		}
		return nil
	})
	return out, err
}

// Sees reports whether the origin of a snapshot is attached.
func (f *Fake) Sees(_ context.Context, name string) (bool, error) {
	f.Storage.mu.Lock()
	defer f.Storage.mu.Unlock()
	for origin, away := range f.Storage.away {
		if away && strings.HasPrefix(name, origin+".") {
			return false, nil
		}
	}
	return true, nil
}

// Mark marks one snapshot after the other.
func (f *Fake) Mark(ctx context.Context, snaps []provider.Snapshot) error {
	var errs []error
	for _, s := range snaps {
		errs = append(errs, f.change(ctx, "Mark", func() error {
			if i := f.Storage.images[s.Name]; i != nil && !s.Scratch {
				i.Armed = true
			}
			return nil
		}))
	}
	return errors.Join(errs...)
}

// Delete removes one snapshot after the other.
func (f *Fake) Delete(ctx context.Context, snaps []provider.Snapshot) error {
	var errs []error
	for _, s := range snaps {
		errs = append(errs, f.change(ctx, "Delete", func() error { return f.Storage.remove(s.Name) }))
	}
	return errors.Join(errs...)
}

func (f *Fake) Expose(ctx context.Context, s provider.Snapshot) (string, error) {
	return devicePath(s.Name), f.change(ctx, "Expose", func() error { return f.Storage.expose(s.Name, true) })
}

func (f *Fake) Hide(ctx context.Context, snaps []provider.Snapshot) error {
	var errs []error
	for _, s := range snaps {
		errs = append(errs, f.change(ctx, "Hide", func() error { return f.Storage.expose(s.Name, false) }))
	}
	return errors.Join(errs...)
}

func (s *Storage) expose(name string, exposed bool) error {
	i := s.images[name]
	if i == nil || exposed && i.content == nil {
		return fmt.Errorf("cannot activate %s: no such snapshot", name)
	}
	i.exposed = exposed
	return nil
}

// Copy makes a writable copy.
func (f *Fake) Copy(ctx context.Context, s provider.Snapshot) (provider.Snapshot, error) {
	c := s
	c.Name, c.Scratch = s.Name+provider.ScratchSuffix, true
	return c, f.change(ctx, "Copy", func() error {
		i := f.Storage.images[s.Name]
		if i == nil {
			return fmt.Errorf("cannot copy %s: no such snapshot", s.Name)
		}
		f.Storage.images[c.Name] = &image{Snapshot: c, content: maps.Clone(i.content)}
		f.Storage.changes++
		return nil
	})
}

// Prepare arms volumes, one after the other.
func (f *Fake) Prepare(ctx context.Context, set provider.Set, vols []provider.Volume) (provider.Enlistment, error) {
	e := &fakeSet{Fake: f}
	for _, v := range vols {
		snap := provider.Snapshot{
			Provider: f.Label, Set: set, Name: v.Name + "." + set.ID, Origin: v.Name, Armed: true,
			MountPoint: v.MountPoint, FSType: v.FSType, Options: v.Options, Size: v.Size,
		}
		e.members = append(e.members, &fakeMember{dev: v.Dev, volume: v, snap: snap})
		if err := f.change(ctx, "Prepare", func() error {
			f.Storage.images[snap.Name] = &image{Snapshot: snap}
			f.Storage.changes++
			e.changes = f.Storage.changes
			return nil
		}); err != nil {
			return e, err
		}
	}
	return e, nil
}

type fakeSet struct {
	*Fake
	members []*fakeMember
	changes int // of the storage, when it was armed
	locked  bool
}

type fakeMember struct {
	dev    dm.Dev
	volume provider.Volume
	snap   provider.Snapshot
	hold   provider.Hold

	resumed bool // by somebody else, during the hold
}

func (e *fakeSet) Origins() []dm.Dev {
	var devs []dm.Dev
	for _, m := range e.members {
		devs = append(devs, m.dev)
	}
	return devs
}

func (e *fakeSet) Watch(holds []provider.Hold) {
	for i, m := range e.members {
		m.hold = nil
		if holds != nil {
			m.hold = holds[i]
		}
	}
}

func (e *fakeSet) Lock(ctx context.Context) error {
	err := e.via("Lock", func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.Storage.locked {
			return errors.New("cannot lock: somebody else has the lock")
		}
		e.Storage.locked, e.locked = true, true
		return errors.Join(e.unchanged(), e.unsuspended())
	})
	if err != nil {
		return errors.Join(err, e.Unlock())
	}
	return nil
}

func (e *fakeSet) unchanged() error {
	if e.Storage.changes != e.changes {
		return provider.ErrChanged
	}
	return e.Storage.healthy()
}

func (e *fakeSet) unsuspended() error {
	for _, m := range e.members {
		if e.Storage.origins[m.dev].suspended {
			return fmt.Errorf("cannot suspend %s: somebody else has suspended it", m.snap.Origin)
		}
	}
	return nil
}

func (e *fakeSet) Unlock() error {
	if !e.locked {
		return nil
	}
	return e.via("Unlock", func() error {
		e.Storage.locked, e.locked = false, false
		return nil
	})
}

// PreCommit suspends.
func (e *fakeSet) PreCommit() error {
	for _, m := range e.members {
		if m.hold == nil {
			return errors.New("internal error: no guard watches")
		}
		if slices.Contains(e.Storage.Suspended(), m.dev) {
			return fmt.Errorf("cannot suspend %s: %w", m.snap.Origin, provider.ErrSuspended)
		}
		if !m.hold.Begin() {
			return fmt.Errorf("cannot suspend %s: %w", m.snap.Origin, provider.ErrOvertaken)
		}
		done := false
		err := e.via("PreCommit", func() error {
			e.Storage.origins[m.dev].suspended, done = true, true
			return nil
		})
		if ours := m.hold.Took(done); done && !ours {
			return fmt.Errorf("cannot suspend %s: %w", m.snap.Origin, provider.ErrOvertaken)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Commit captures.
func (e *fakeSet) Commit() error {
	for _, m := range e.members {
		if m.hold == nil || !m.hold.Held() {
			return fmt.Errorf("cannot capture %s: %w", m.snap.Origin, provider.ErrOvertaken)
		}
		if err := e.via("Commit", func() error {
			o, i := e.Storage.origins[m.dev], e.Storage.images[m.snap.Name]
			switch {
			case i == nil:
				return fmt.Errorf("cannot capture %s: %w", m.snap.Origin, provider.ErrChanged)
			case !o.suspended:
				return fmt.Errorf("cannot capture %s: it is not suspended", m.snap.Origin)
			}
			i.content = maps.Clone(o.content)
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// PostCommit resumes what is ours.
func (e *fakeSet) PostCommit() error {
	var errs []error
	for _, m := range e.members {
		if m.hold == nil || !m.hold.Claim() {
			continue
		}
		if m.resumed = !slices.Contains(e.Storage.Suspended(), m.dev); m.resumed {
			m.hold.Done()
			continue
		}
		done := false
		err := e.via("PostCommit", func() error {
			e.Storage.origins[m.dev].suspended, done = false, true
			return nil
		})
		if done {
			m.hold.Done()
		} else {
			m.hold.Unclaim()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (e *fakeSet) Verify() error {
	return e.via("Verify", func() error {
		for _, m := range e.members {
			if m.resumed {
				return fmt.Errorf("cannot resume %s: %w", m.snap.Origin, provider.ErrResumed)
			}
		}
		return e.unchanged()
	})
}

// Open opens one snapshot after the other; Seal seals them.
func (e *fakeSet) Open(ctx context.Context) ([]provider.Image, error) {
	var out []provider.Image
	for _, m := range e.members {
		if err := e.change(ctx, "Open", func() error { return e.Storage.open(m.snap.Name, true) }); err != nil {
			return nil, err
		}
		out = append(out, provider.Image{Volume: m.volume, Device: devicePath(m.snap.Name)})
	}
	return out, nil
}

func (e *fakeSet) Seal(ctx context.Context) error {
	var errs []error
	for _, m := range e.members {
		errs = append(errs, e.change(ctx, "Seal", func() error { return e.Storage.open(m.snap.Name, false) }))
	}
	return errors.Join(errs...)
}

func (e *fakeSet) Finalize(ctx context.Context, f provider.Final) ([]provider.Snapshot, error) {
	var out []provider.Snapshot
	err := e.change(ctx, "Finalize", func() error {
		for _, m := range e.members {
			i := e.Storage.images[m.snap.Name]
			if i == nil {
				return fmt.Errorf("cannot finish %s: no such snapshot", m.snap.Name)
			}
			i.Armed, i.Consistency, i.Created = false, f.Consistency, f.Created
			out = append(out, i.Snapshot)
		}
		return nil
	})
	return out, err
}

func (e *fakeSet) Abort(ctx context.Context) error {
	return e.change(ctx, "Abort", func() error {
		for _, m := range e.members {
			if e.Storage.images[m.snap.Name] != nil {
				delete(e.Storage.images, m.snap.Name)
				e.Storage.changes++
			}
		}
		return nil
	})
}
