package providertest

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/fsfreeze"
)

// Run tests a provider. Factory makes a bench for a test; what is done to a bench that cannot be undone is done to one of
// its own.
func Run(t *testing.T, factory func(t *testing.T) Bench) {
	t.Run("life", func(t *testing.T) {
		b := factory(t)
		s := &suite{Bench: b, one: b.Origin(t, 0, "one"), two: b.Origin(t, 0, "two-2"), far: b.Origin(t, 1, "far")}
		for _, test := range []struct {
			name string
			do   func(*testing.T)
		}{
			{"instant", s.instant},
			{"abort", s.abort},
			{"death", s.death},
			{"guard", s.guard},
			{"not watched", s.notWatched},
			{"several sets", s.several},
			{"expose", s.expose},
			{"copy", s.copy},
			{"open", s.open},
			{"two groups", s.groups},
			{"under load", s.load},
			{"what others do", s.others},
			{"names", s.names},
		} {
			t.Run(test.name, func(t *testing.T) {
				before := s.Traces(t)
				test.do(t)
				if after := s.Traces(t); after != before {
					t.Errorf("before:\n%s\nafter:\n%s", before, after)
				}
			})
		}
		for _, o := range []Origin{s.one, s.two, s.far} {
			o.Check(t)
		}
	})
	t.Run("no room", func(t *testing.T) {
		b := factory(t)
		noRoom(t, b, b.Origin(t, 0, "one"))
	})
	t.Run("broken pool", func(t *testing.T) {
		b := factory(t)
		if breaker, ok := b.(Breaker); ok {
			brokenPool(t, b, breaker, b.Origin(t, 0, "one"))
		}
	})
	t.Run("overflow", func(t *testing.T) {
		b := factory(t)
		if _, ok := b.Provider().(provider.Usager); ok {
			overflow(t, b, b.Origin(t, 0, "one"))
		}
	})
}

type suite struct {
	Bench
	one, two, far Origin
}

// instant: a set shows what was acknowledged before the freeze, arming included, and nothing that came after.
func (s *suite) instant(t *testing.T) {
	p := s.Provider()
	big := strings.Repeat("0123456789abcdef", 1<<13) // 128 KiB: more than one block of any pool
	s.one.Write(t, "old", big)
	x := newSet(t, p, s.one, s.two)
	if err := p.Admit(t.Context(), x.volumes()); err != nil {
		t.Errorf("Admit: %v", err)
	}
	x.until("Prepare")
	armed := x.listed()
	if len(armed) != 2 {
		t.Errorf("armed: %+v", armed)
	}
	for _, a := range armed {
		if !a.Armed || a.Scratch || a.Set != x.id {
			t.Errorf("armed: %+v", a)
		}
	}
	s.one.Write(t, "old", strings.ToUpper(big)) // overwritten after arming: a block that the arming shares
	s.one.Write(t, "armed", "1")
	s.two.Write(t, "armed", "2")
	one, two := s.one.Content(t), s.two.Content(t)
	for _, stage := range stages[1:] {
		if err := x.do(stage); err != nil {
			x.undo()
			t.Fatalf("%s: %v", stage, err)
		}
		if stage == "PostCommit" {
			s.one.Write(t, "old", "after")
			s.one.Write(t, "after", big)
			s.two.Write(t, "after", "2")
		}
	}
	want := map[string]Content{x.snaps[0].Origin: one, x.snaps[1].Origin: two}
	for _, snap := range x.snaps {
		x.shows(s, snap, want[snap.Origin])
	}
	x.told()
	x.p = s.Provider() // a daemon that starts later finds the same
	x.told()
	after := s.one.Content(t)
	x.delete()
	if got := s.one.Content(t); !maps.Equal(got, after) {
		t.Errorf("after deletion the origin shows %v, want %v", summary(got), summary(after))
	}
	writable(t, s.one)
	writable(t, s.two)
}

// told checks that the provider lists the finished set, with everything that it was told of it.
func (s *set) told() {
	s.t.Helper()
	listed, vols := s.listed(), s.volumes()
	if len(listed) != len(vols) || len(s.snaps) != len(vols) {
		s.t.Fatalf("listed %+v, finished %+v, of %d volumes", listed, s.snaps, len(vols))
	}
	for _, v := range vols {
		i := slices.IndexFunc(listed, func(x provider.Snapshot) bool { return x.Origin == v.Name })
		if i < 0 {
			s.t.Fatalf("no snapshot of %s in %+v", v.Name, listed)
		}
		want := provider.Snapshot{
			Provider: s.p.Name(), Set: s.id, Name: listed[i].Name, Origin: v.Name, MountPoint: v.MountPoint, FSType: v.FSType,
			Consistency: s.final.Consistency, Created: s.final.Created, Size: v.Size,
			Volatile: listed[i].Volatile, Pool: listed[i].Pool, // the provider's own to say
		}
		if listed[i].Machine != "" || listed[i].Host != "" { // a provider whose snapshots no other host can see need not tell
			want.Machine, want.Host = provider.ThisHost().Machine, provider.ThisHost().Name
		}
		if !reflect.DeepEqual(listed[i], want) {
			s.t.Errorf("listed %+v, want %+v", listed[i], want)
		}
		if !slices.ContainsFunc(s.snaps, func(x provider.Snapshot) bool { return reflect.DeepEqual(x, want) }) {
			s.t.Errorf("finished %+v, want %+v", s.snaps, want)
		}
	}
}

// abort: after whatever stage, an aborted set has left no trace, and the next one succeeds.
func (s *suite) abort(t *testing.T) {
	for _, last := range stages {
		t.Run("after "+last, func(t *testing.T) {
			x := newSet(t, s.Provider(), s.one, s.two).until(last)
			x.undo()
			if l := x.listed(); len(l) > 0 {
				t.Errorf("listed: %+v", l)
			}
			writable(t, s.one)
			writable(t, s.two)
		})
	}
	take(t, s.Provider(), s.one, s.two).delete()
	s.Others(t, s.one)
}

// death: the daemon dies after whatever stage, the guard releases, and the next daemon removes what it finds armed.
func (s *suite) death(t *testing.T) {
	for _, last := range stages {
		t.Run("after "+last, func(t *testing.T) {
			x := newSet(t, s.Provider(), s.one).until(last)
			for _, o := range x.origins {
				if o.Suspended(t) {
					o.Resume(t)
				}
			}
			x.thaw()
			if err := x.part.Unlock(); err != nil { // as the kernel does with a dead process's locks
				t.Error(err)
			}
			x.p = s.Provider()
			left := x.listed()
			if len(left) != 1 {
				t.Errorf("left: %+v", left)
			}
			for _, l := range left {
				if l.Armed != (last != "Finalize") {
					t.Errorf("after %s: %+v", last, l)
				}
			}
			if err := x.p.Delete(t.Context(), left); err != nil {
				t.Error(err)
			}
			writable(t, s.one)
		})
	}
	take(t, s.Provider(), s.one).delete()
}

// guard: what the guard has taken over is the guard's alone.
func (s *suite) guard(t *testing.T) {
	t.Run("before the suspend", func(t *testing.T) {
		x := newSet(t, s.Provider(), s.one, s.two).until("Lock")
		x.watch()
		x.cells[1].Forbid()
		if err := x.do("PreCommit"); !errors.Is(err, provider.ErrOvertaken) {
			t.Errorf("PreCommit: %v", err)
		}
		if s.two.Suspended(t) {
			t.Error("suspended after the deadline")
		}
		x.undo()
		writable(t, s.one)
		writable(t, s.two)
	})
	t.Run("during the suspend", func(t *testing.T) {
		x := newSet(t, s.Provider(), s.one).until("Lock")
		c := new(fsfreeze.Cell)
		x.holds = []provider.Hold{overtaken{c}}
		if err := x.do("PreCommit"); !errors.Is(err, provider.ErrOvertaken) {
			t.Errorf("PreCommit: %v", err)
		}
		if err := onThread(x.part.PostCommit); err != nil {
			t.Errorf("PostCommit: %v", err)
		}
		s.released(t, s.one, c)
		x.undo()
		writable(t, s.one)
	})
	t.Run("during the hold", func(t *testing.T) {
		x := newSet(t, s.Provider(), s.one, s.two).until("PreCommit")
		if !x.cells[0].Seize() {
			t.Fatal("the guard cannot take over")
		}
		if err := x.do("Commit"); !errors.Is(err, provider.ErrOvertaken) {
			t.Errorf("Commit: %v", err)
		}
		if err := onThread(x.part.PostCommit); err != nil {
			t.Errorf("PostCommit: %v", err)
		}
		s.released(t, x.origins[0], x.cells[0])
		x.undo()
		writable(t, s.one)
		writable(t, s.two)
	})
	take(t, s.Provider(), s.one, s.two).delete()
}

// released lets the guard resume a volume that it has taken over, and which the provider must have left to it.
func (s *suite) released(t *testing.T, o Origin, c *fsfreeze.Cell) {
	t.Helper()
	if !o.Suspended(t) {
		t.Errorf("%s was resumed, which was the guard's to do", o.Volume().Name)
		return
	}
	o.Resume(t)
	c.Done()
}

// overtaken is a hold that the guard overtakes while the kernel is busy.
type overtaken struct{ *fsfreeze.Cell }

func (o overtaken) Begin() bool { return o.Cell.Begin() && o.Overtake() }

// notWatched: nothing is suspended that no guard would resume.
func (s *suite) notWatched(t *testing.T) {
	x := newSet(t, s.Provider(), s.one).until("Lock")
	if err := x.part.PreCommit(); err == nil || s.one.Suspended(t) {
		t.Errorf("PreCommit without a guard: %v, suspended: %v", err, s.one.Suspended(t))
	}
	x.undo()
}

// several: sets of one volume do not disturb each other, in whatever order they go.
func (s *suite) several(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		p := s.Provider()
		var sets []*set
		var want []Content
		for i := range order {
			s.one.Write(t, "number", fmt.Sprint(i))
			want = append(want, s.one.Content(t))
			sets = append(sets, take(t, p, s.one))
		}
		s.one.Write(t, "number", "now")
		for n, i := range order {
			sets[i].delete()
			for _, j := range order[n+1:] {
				sets[j].shows(s, sets[j].snaps[0], want[j])
			}
		}
		if got := s.one.Content(t)["number"]; got != "now" {
			t.Errorf("the origin shows %s", got)
		}
	}
}

// expose: once is enough, twice does no harm, and a snapshot that is exposed can be deleted.
func (s *suite) expose(t *testing.T) {
	x := take(t, s.Provider(), s.one)
	snap := x.snaps[0]
	first, err := x.p.Expose(t.Context(), snap)
	if err != nil {
		t.Fatal(err)
	}
	second, err := x.p.Expose(t.Context(), snap)
	if err != nil || second != first {
		t.Errorf("exposed twice: %s, %s, %v", first, second, err)
	}
	for range 2 {
		if err := x.p.Hide(t.Context(), []provider.Snapshot{snap}); err != nil {
			t.Errorf("Hide: %v", err)
		}
	}
	x.shows(s, snap, s.one.Content(t))
	if _, err := x.p.Expose(t.Context(), snap); err != nil {
		t.Error(err)
	}
	x.delete()
	if _, err := x.p.Expose(t.Context(), snap); err == nil {
		t.Error("a snapshot that does not exist was exposed")
	}
}

// copy: a throw-away copy can be written to, and the snapshot does not change.
func (s *suite) copy(t *testing.T) {
	x := take(t, s.Provider(), s.one)
	want := s.one.Content(t)
	copier, ok := x.p.(provider.Copier)
	if !ok {
		x.delete()
		return
	}
	c, err := copier.Copy(t.Context(), x.snaps[0])
	if err != nil {
		t.Fatal(err)
	}
	if !c.Scratch || c.Armed || c.Origin != x.snaps[0].Origin {
		t.Errorf("got %+v", c)
	}
	if l := x.listed(); len(l) != 2 || l[0].Scratch == l[1].Scratch {
		t.Errorf("listed: %+v", l)
	}
	device, err := x.p.Expose(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	s.Write(t, device, "written", "here")
	if got := s.Content(t, device); got["written"] != "here" || len(got) != len(want)+1 {
		t.Errorf("the copy shows %v", summary(got))
	}
	x.shows(s, x.snaps[0], want)
	if err := x.p.Delete(t.Context(), []provider.Snapshot{c}); err != nil {
		t.Error(err)
	}
	x.shows(s, x.snaps[0], want)
	if l := x.listed(); len(l) != 1 || l[0].Armed || l[0].Scratch {
		t.Errorf("after the copy was deleted: %+v", l)
	}
	if got := s.one.Content(t); !maps.Equal(got, want) {
		t.Errorf("the origin shows %v", summary(got))
	}
	x.delete()
}

// open: what is written between the capture and the seal is in the set, and nowhere else; then nothing can be written.
func (s *suite) open(t *testing.T) {
	for _, sealed := range []bool{true, false} {
		s.one.Write(t, "before", "x")
		x := newSet(t, s.Provider(), s.one).until("Verify")
		want := s.one.Content(t)
		opener, ok := x.part.(provider.Opener)
		if !ok {
			x.undo()
			return
		}
		images, err := opener.Open(t.Context())
		if err != nil || len(images) != 1 || images[0].Volume.Name != s.one.Volume().Name {
			x.undo()
			t.Fatalf("Open: %+v, %v", images, err)
		}
		s.Write(t, images[0].Device, "recovered", "here")
		if !sealed { // what is open can be undone as well
			x.undo()
			writable(t, s.one)
			return
		}
		if err := opener.Seal(t.Context()); err != nil {
			t.Error(err)
		}
		if err := x.do("Finalize"); err != nil {
			x.undo()
			t.Fatal(err)
		}
		if got := s.one.Content(t); !maps.Equal(got, want) {
			t.Errorf("the origin shows %v", summary(got))
		}
		want["recovered"] = "here"
		x.shows(s, x.snaps[0], want)
		x.told()
		x.delete()
	}
}

// groups: volumes of several groups in one set.
func (s *suite) groups(t *testing.T) {
	s.far.Write(t, "where", "far")
	x := newSet(t, s.Provider(), s.far, s.one, s.two)
	want := map[string]Content{}
	for i, v := range x.volumes() {
		want[v.Name] = x.origins[i].Content(t)
	}
	x.until("Finalize")
	x.told()
	for _, snap := range x.snaps {
		x.shows(s, snap, want[snap.Origin])
	}
	x.delete()
	newSet(t, s.Provider(), s.one, s.far).until("Commit").undo()
	writable(t, s.far)
}

// others: what somebody else does to a set's volumes is noticed in time, and left as it is.
func (s *suite) others(t *testing.T) {
	t.Run("removes what is armed", func(t *testing.T) {
		x := newSet(t, s.Provider(), s.one, s.two).until("Prepare")
		s.Remove(t, x.listed()[0].Name)
		if err := x.do("Lock"); !errors.Is(err, provider.ErrChanged) {
			t.Errorf("Lock: %v", err)
		}
		x.undo()
		s.Others(t, s.one)
		take(t, s.Provider(), s.one, s.two).delete()
	})
	t.Run("has suspended a volume", func(t *testing.T) {
		x := newSet(t, s.Provider(), s.one, s.two).until("Prepare")
		s.two.Suspend(t)
		err := x.do("Lock")
		if err == nil || !s.two.Suspended(t) {
			t.Errorf("Lock: %v", err)
		}
		s.two.Resume(t)
		x.undo()
		writable(t, s.two)
	})
	t.Run("suspends a volume after the last look", func(t *testing.T) {
		x := newSet(t, s.Provider(), s.one, s.two).until("Lock")
		x.watch()
		s.two.Suspend(t)
		if err := onThread(x.part.PreCommit); !errors.Is(err, provider.ErrSuspended) {
			t.Errorf("PreCommit: %v", err)
		}
		if err := onThread(x.part.PostCommit); err != nil {
			t.Errorf("PostCommit: %v", err)
		}
		if s.one.Suspended(t) || !s.two.Suspended(t) {
			t.Errorf("ours is suspended: %v; theirs: %v", s.one.Suspended(t), s.two.Suspended(t))
		}
		s.two.Resume(t)
		x.undo()
		writable(t, s.one)
		writable(t, s.two)
	})
	t.Run("resumes a volume during the hold", func(t *testing.T) {
		x := newSet(t, s.Provider(), s.one, s.two).until("Commit")
		s.two.Resume(t)
		for _, stage := range []string{"PostCommit", "Unlock"} {
			if err := x.do(stage); err != nil {
				t.Errorf("%s: %v", stage, err)
			}
		}
		if err := x.do("Verify"); !errors.Is(err, provider.ErrResumed) {
			t.Errorf("Verify: %v", err)
		}
		x.undo()
		writable(t, s.one)
		writable(t, s.two)
	})
	t.Run("deletes a snapshot of a finished set", func(t *testing.T) {
		x := take(t, s.Provider(), s.one, s.two)
		s.Remove(t, x.snaps[0].Name)
		if l := x.listed(); len(l) != 1 || l[0].Name != x.snaps[1].Name {
			t.Errorf("listed: %+v", l)
		}
		if err := x.p.Delete(t.Context(), x.snaps[1:]); err != nil {
			t.Error(err)
		}
	})
	t.Run("nothing", func(t *testing.T) {
		if err := s.Provider().Delete(t.Context(), nil); err != nil {
			t.Errorf("nothing deleted: %v", err)
		}
		if _, err := s.Provider().Claim(provider.Volume{Dev: 1<<8 | 3, Device: "", Name: "null"}); err == nil {
			t.Error("a volume that is none was taken")
		}
	})
}

// names: hyphens, and names so long that nothing can be added to them, even if two differ in nothing but the end.
func (s *suite) names(t *testing.T) {
	n := s.LongestName(0)
	var long []Origin
	for _, end := range []string{"a", "b"} {
		name := strings.Repeat("n-_.+", n)[:n-1]
		for strings.Count(name, "-")+len(name)+1 > n { // in device-mapper's names a hyphen takes two places
			name = name[:len(name)-1]
		}
		o := s.Origin(t, 0, name+end)
		o.Write(t, "end", end)
		long = append(long, o)
	}
	x := newSet(t, s.Provider(), long...)
	want := map[string]Content{}
	for i, v := range x.volumes() {
		want[v.Name] = long[i].Content(t)
	}
	x.until("Finalize")
	x.told()
	for _, snap := range x.snaps {
		x.shows(s, snap, want[snap.Origin])
	}
	if copier, ok := x.p.(provider.Copier); ok {
		c, err := copier.Copy(t.Context(), x.snaps[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := x.p.Delete(t.Context(), []provider.Snapshot{c}); err != nil {
			t.Error(err)
		}
	}
	x.delete()
	newSet(t, s.Provider(), long...).until("Commit").undo()
}

// noRoom: a set that would fill the pool is not begun.
func noRoom(t *testing.T, b Bench, o Origin) {
	before := b.Traces(t)
	x := newSet(t, b.Provider(), o)
	if err := x.p.Admit(t.Context(), x.volumes()); err != nil {
		t.Fatalf("Admit with room: %v", err)
	}
	b.Fill(t)
	if err := x.p.Admit(t.Context(), x.volumes()); !errors.Is(err, provider.ErrNoRoom) {
		t.Errorf("Admit: %v", err)
	}
	if after := b.Traces(t); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// brokenPool: a pool that has lost a write is noticed before the window, and after it.
func brokenPool(t *testing.T, b Bench, breaker Breaker, o Origin) {
	x := newSet(t, b.Provider(), o).until("Prepare")
	y := newSet(t, b.Provider(), o)
	breaker.Break(t)
	if err := y.p.Admit(t.Context(), y.volumes()); !errors.Is(err, provider.ErrPool) {
		t.Errorf("Admit: %v", err)
	}
	if err := x.do("Lock"); !errors.Is(err, provider.ErrPool) {
		t.Errorf("Lock: %v", err)
	}
	if err := x.part.Verify(); !errors.Is(err, provider.ErrPool) {
		t.Errorf("Verify: %v", err)
	}
	if m, ok := b.(Mender); ok {
		m.Mend(t)
	}
	x.undo()
}
