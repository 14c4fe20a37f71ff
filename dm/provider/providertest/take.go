package providertest

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/fsfreeze"
)

// stages are the life of a snapshot as far as an enlistment goes.
var stages = []string{"Prepare", "Lock", "PreCommit", "Commit", "PostCommit", "Unlock", "Verify", "Finalize"}

// set is a snapshot set on its way through a provider.
type set struct {
	t       *testing.T
	p       provider.Provider
	id      provider.Set
	origins []Origin
	cow     uint64 // bytes of copy-on-write area; 0: the provider's own choice
	part    provider.Enlistment
	cells   []*fsfreeze.Cell
	holds   []provider.Hold // instead of cells, if not nil
	frozen  bool
	final   provider.Final
	snaps   []provider.Snapshot
}

var setNumber int

func newSet(t *testing.T, p provider.Provider, origins ...Origin) *set {
	setNumber++
	return &set{
		t: t, p: p, origins: origins,
		id:    provider.Set{ID: fmt.Sprintf("20261120T%06d_%04x", setNumber, setNumber), Policy: "nightly", Members: len(origins)},
		final: provider.Final{Consistency: "filesystem", Created: 1795179480909723},
	}
}

func (s *set) volumes() []provider.Volume {
	var vols []provider.Volume
	for _, o := range s.origins {
		v := o.Volume()
		c, err := s.p.Claim(v)
		if err != nil {
			s.t.Fatalf("%s does not take %+v: %v", s.p.Name(), v, err)
		}
		v.Name, v.COW = c.Name, s.cow
		vols = append(vols, v)
	}
	return vols
}

// do takes the set through one stage. The filesystems are frozen before PreCommit and thawed after PostCommit.
func (s *set) do(stage string) (err error) {
	ctx := s.t.Context()
	switch stage {
	case "Prepare":
		s.part, err = s.p.Prepare(ctx, s.id, s.volumes())
	case "Lock":
		err = s.part.Lock(ctx)
	case "PreCommit":
		s.watch()
		for _, o := range s.origins {
			o.Freeze(s.t)
		}
		s.frozen = true
		err = onThread(s.part.PreCommit)
	case "Commit":
		err = onThread(s.part.Commit)
	case "PostCommit":
		err = onThread(s.part.PostCommit)
		s.thaw()
	case "Unlock":
		s.part.Watch(nil)
		err = s.part.Unlock()
	case "Verify":
		err = s.part.Verify()
	case "Finalize":
		s.snaps, err = s.part.Finalize(ctx, s.final)
	}
	return err
}

func (s *set) watch() {
	if s.holds == nil {
		for range s.part.Origins() {
			c := new(fsfreeze.Cell)
			s.cells, s.holds = append(s.cells, c), append(s.holds, c)
		}
	}
	s.part.Watch(s.holds)
}

// onThread calls a method of the window as the window does.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		done <- f()
	}()
	return <-done
}

func (s *set) thaw() {
	if !s.frozen {
		return
	}
	for _, o := range slices.Backward(s.origins) {
		o.Thaw(s.t)
	}
	s.frozen = false
}

// until takes the set through all stages up to one, which must succeed.
func (s *set) until(last string) *set {
	s.t.Helper()
	for _, stage := range stages {
		if err := s.do(stage); err != nil {
			s.undo()
			s.t.Fatalf("%s: %v", stage, err)
		}
		if stage == last {
			break
		}
	}
	return s
}

// take takes a whole set.
func take(t *testing.T, p provider.Provider, origins ...Origin) *set {
	t.Helper()
	return newSet(t, p, origins...).until("Finalize")
}

// undo does what the transaction does when a set fails, however far it got.
func (s *set) undo() {
	s.t.Helper()
	if s.part == nil {
		return
	}
	if err := onThread(s.part.PostCommit); err != nil {
		s.t.Errorf("PostCommit: %v", err)
	}
	s.thaw()
	s.part.Watch(nil)
	if err := s.part.Unlock(); err != nil {
		s.t.Errorf("Unlock: %v", err)
	}
	for range 2 { // twice is once
		if err := s.part.Abort(s.t.Context()); err != nil {
			s.t.Errorf("Abort: %v", err)
		}
	}
}

// listed are the set's snapshots as the provider lists them, by their origins' names.
func (s *set) listed() []provider.Snapshot {
	s.t.Helper()
	all, err := s.p.Snapshots(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(x provider.Snapshot) bool { return x.Set.ID != s.id.ID })
	slices.SortFunc(all, func(a, b provider.Snapshot) int { return strings.Compare(a.Origin, b.Origin) })
	return all
}

// shows fails the test unless a snapshot shows this content.
func (s *set) shows(b Bench, snap provider.Snapshot, want Content) {
	s.t.Helper()
	device, err := s.p.Expose(s.t.Context(), snap)
	if err != nil {
		s.t.Fatal(err)
	}
	if got := b.Content(s.t, device); !maps.Equal(got, want) {
		s.t.Errorf("%s shows %v, want %v", snap.Name, summary(got), summary(want))
	}
	if err := s.p.Hide(s.t.Context(), []provider.Snapshot{snap}); err != nil {
		s.t.Error(err)
	}
}

// summary is a content for people.
func summary(c Content) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(c)) {
		v := c[key]
		if len(v) > 20 {
			v = fmt.Sprintf("%.10s… (%d bytes)", v, len(v))
		}
		parts = append(parts, key+"="+v)
	}
	return "{" + strings.Join(parts, " ") + "}"
}

func (s *set) delete() {
	s.t.Helper()
	if err := s.p.Delete(s.t.Context(), s.snaps); err != nil {
		s.t.Error(err)
	}
}

// writable fails the test unless the volume takes a write within a second and is not suspended.
func writable(t *testing.T, o Origin) {
	t.Helper()
	if o.Suspended(t) {
		t.Errorf("%s is suspended", o.Volume().Name)
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.Write(t, "probe", "x")
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatalf("%s cannot be written", o.Volume().Name)
	}
}
