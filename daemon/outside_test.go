package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/pools"
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
)

func TestDifferences(t *testing.T) {
	seen := time.Unix(1, 0)
	lv := func(name, set string) seenSnapshot {
		return seenSnapshot{provider.Snapshot{Provider: "thin", Name: "vg/" + name, Set: provider.Set{ID: set}}, "vg"}
	}
	armed := lv("a", "1")
	armed.Armed = true
	scratch := lv("a.scratch", "1")
	scratch.Scratch = true
	thick := lv("a", "1")
	thick.Provider = "thick"
	lost := thick
	lost.Invalid = "lost"
	raw := seenSnapshot{provider.Snapshot{Provider: "dm", Name: "data.1", Volatile: true}, ""}
	clone := seenSnapshot{provider.Snapshot{Provider: "clone", Name: "/srv/c"}, ""}
	group := func(marks map[string]provider.Mark) pools.Group {
		return pools.Group{Name: "vg", Seen: seen, Marks: marks}
	}
	one := map[string]provider.Mark{"vg/a": {Set: "1"}}
	area := func(name string, l pools.Level) pools.State {
		return pools.State{Seen: seen, Pools: []pools.Pool{{Name: name, Space: dm.Space{Type: "snapshot"}, Level: l}}}
	}
	for _, c := range []struct {
		name   string
		listed []seenSnapshot
		groups []pools.Group
		areas  pools.State
		want   string
		at     []string
	}{
		{"as listed", []seenSnapshot{lv("a", "1"), clone}, []pools.Group{group(one)}, pools.State{}, "", nil},
		{"removed", []seenSnapshot{lv("a", "1"), lv("b", "1")}, []pools.Group{group(one)}, pools.State{}, "vg/b is gone", []string{"thin"}},
		{"marked", []seenSnapshot{armed}, []pools.Group{group(one)}, pools.State{}, "vg/a is {Set:1 Armed:false Scratch:false}", []string{"thin"}},
		{"a throw-away copy", []seenSnapshot{lv("a", "1")}, []pools.Group{group(map[string]provider.Mark{"vg/a": {Set: "1"}, "vg/a.scratch": {Set: "1", Scratch: true}})}, pools.State{}, "", nil},
		{"a throw-away copy that is gone", []seenSnapshot{lv("a", "1"), scratch}, []pools.Group{group(one)}, pools.State{}, "", nil},
		{"another host's", nil, []pools.Group{group(one)}, pools.State{}, "vg/a is there, {Set:1 Armed:false Scratch:false}", []string{anyOfLVM}},
		{"renamed group", []seenSnapshot{lv("a", "1")}, []pools.Group{{Name: "new", Seen: seen, Marks: map[string]provider.Mark{"new/a": {Set: "1"}}}}, pools.State{},
			"new/a is there, {Set:1 Armed:false Scratch:false}\nvg/a is gone", []string{"thin", anyOfLVM}},
		{"group that is gone", []seenSnapshot{lv("a", "1")}, nil, pools.State{}, "vg/a is gone", []string{"thin"}},
		{"group that cannot be read", []seenSnapshot{lv("a", "1")}, []pools.Group{{Name: "vg", Seen: seen, Err: errors.New("hangs")}}, pools.State{}, "", nil},
		{"group that was never read", []seenSnapshot{lv("a", "1")}, []pools.Group{{Name: "vg"}}, pools.State{}, "", nil},
		{"two groups of a name", []seenSnapshot{lv("a", "1")}, []pools.Group{group(nil), group(one)}, pools.State{}, "", nil},
		{"overflowed", []seenSnapshot{thick}, []pools.Group{group(one)}, area("vg/a", pools.Failed), "vg/a is lost", []string{"thick"}},
		{"overflowed, and listed so", []seenSnapshot{lost}, []pools.Group{group(one)}, area("vg/a", pools.Failed), "", nil},
		{"nearly full", []seenSnapshot{thick}, []pools.Group{group(one)}, area("vg/a", pools.Critical), "", nil},
		{"provider dm's", []seenSnapshot{raw}, nil, area("data.1", pools.OK), "", nil},
		{"provider dm's, overflowed", []seenSnapshot{raw}, nil, area("data.1", pools.Failed), "data.1 is lost", []string{"dm"}},
		{"provider dm's, removed", []seenSnapshot{raw}, nil, area("data.2", pools.OK), "data.1 is gone", []string{"dm"}},
		{"provider dm's, nothing seen yet", []seenSnapshot{raw}, nil, pools.State{}, "", nil},
		{"provider dm's, not all seen", []seenSnapshot{raw}, nil, pools.State{Seen: seen, Err: errors.New("no")}, "", nil},
	} {
		got, at := differences(c.listed, c.groups, c.areas)
		if strings.Join(got, "\n") != c.want || len(at) != len(c.at) {
			t.Errorf("%s: %q at %v", c.name, got, at)
		}
		for _, p := range c.at {
			if !at[p] {
				t.Errorf("%s: at %v", c.name, at)
			}
		}
	}
}

// grouped is a provider whose snapshots are in groups of LVM's, and which counts how often it lists them.
type grouped struct {
	provider.Provider
	listed *atomic.Int32
	hang   *atomic.Bool
}

func (g grouped) GroupOf(s provider.Snapshot) string {
	group, _, _ := strings.Cut(s.Name, "/")
	return group
}

func (g grouped) Snapshots(ctx context.Context) ([]provider.Snapshot, error) {
	g.listed.Add(1)
	if g.hang.Load() {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return g.Provider.Snapshots(ctx)
}

// What somebody else has removed is listed anew, once, after a moment of quiet; never what Fermata itself has done, never while somebody
// has the turn, and nobody who takes it then is told that it is busy.
func TestFollowSets(t *testing.T) { synctest.Test(t, followSets) }

func followSets(t *testing.T) {
	w := newWorld(t)
	w.policy.Volumes = w.policy.Volumes[:2]
	d := w.daemon()
	var listed atomic.Int32
	var hang atomic.Bool
	for i, p := range d.o.Providers {
		if p.Name() == "alpha" {
			d.o.Providers[i] = grouped{p, &listed, &hang}
		}
	}
	var tidied atomic.Int32
	d.o.Changed = func() { tidied.Add(1) }
	d.o.Groups = func() []pools.Group { // as LVM's metadata would tell
		marks := map[string]provider.Mark{}
		for _, s := range w.storage["alpha"].Snapshots() {
			marks[s.Name] = s.Mark()
		}
		return []pools.Group{{Name: "alpha", Seen: time.Unix(1, 0), Marks: marks}}
	}
	var ids []string
	for range 2 {
		m, err := w.take(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, m.ID)
	}
	alpha := d.o.Providers[slices.IndexFunc(d.o.Providers, func(p provider.Provider) bool { return p.Name() == "alpha" })].(grouped).Provider
	remove := func(names ...string) { // by hand
		var snaps []provider.Snapshot
		for _, s := range w.storage["alpha"].Snapshots() {
			if slices.Contains(names, s.Name) {
				snaps = append(snaps, s)
			}
		}
		if err := errors.Join(alpha.Mark(t.Context(), snaps), alpha.Delete(t.Context(), snaps)); err != nil {
			t.Fatal(err)
		}
	}
	states := func() (out string) {
		for _, m := range d.Known() {
			out += string(m.State) + " "
		}
		return out
	}
	ctx, cancel := context.WithCancel(t.Context())
	looked := make(chan struct{}, 1)
	d.FollowSets(ctx, looked)
	look := func(wait time.Duration) int32 {
		before := listed.Load()
		looked <- struct{}{}
		time.Sleep(wait)
		synctest.Wait()
		return listed.Load() - before
	}
	if n := look(time.Hour); n != 0 {
		t.Errorf("what Fermata did was listed %d times more", n)
	}
	remove("alpha/a." + ids[0])
	looked <- struct{}{}
	time.Sleep(2 * time.Second)
	remove("alpha/b." + ids[1]) // somebody goes on
	if n := look(2 * time.Second); n != 0 {
		t.Errorf("listed %d times while somebody still removes", n)
	}
	time.Sleep(2 * time.Second)
	synctest.Wait()
	if got := states(); got != "damaged damaged complete " || tidied.Load() != 1 {
		t.Errorf("after that: %s, told %d times", got, tidied.Load())
	}
	time.Sleep(outsidePause)
	for range 10 { // many changes in a short time
		looked <- struct{}{}
		time.Sleep(100 * time.Millisecond)
	}
	if n := look(time.Hour); n != 0 {
		t.Errorf("listed %d times more", n)
	}

	// All of a set, while somebody has the turn.
	release, err := d.turn.take(ctx, true)
	if err != nil {
		t.Fatal(err)
	}
	remove("alpha/b." + ids[0])
	if n := look(time.Minute); n != 0 {
		t.Errorf("listed %d times while somebody had the turn", n)
	}
	release()
	time.Sleep(2 * outsideSettled)
	if got := states(); got != "damaged complete " {
		t.Errorf("after the turn: %s", got)
	}
	time.Sleep(outsidePause)

	// LVM hangs: nobody is told that it is busy, a stop is not held up.
	hang.Store(true)
	remove("alpha/a." + ids[1])
	looked <- struct{}{}
	time.Sleep(outsideSettled + time.Second)
	synctest.Wait()
	began := time.Now()
	release, err = d.turn.take(ctx, true)
	if waited := time.Since(began); err != nil || waited == 0 || waited > outsideLimit {
		t.Errorf("while it is listed: %v after %v", err, waited)
	}
	release()
	if got := states(); got != "damaged complete " {
		t.Errorf("not known anew: %s", got)
	}
	cancel()
	d.Wait()
}

func TestBecomes(t *testing.T) {
	before := []api.Manifest{{ID: "1", State: api.Complete}, {ID: "2", Policy: "p", State: api.Complete}, {ID: "3", State: api.Damaged}}
	after := []api.Manifest{{ID: "2", Policy: "p", State: api.Damaged, Reasons: []string{"x", "y"}}, {ID: "3", State: api.Damaged}, {ID: "4"}}
	want := `set 1 of policy "" is gone, set 2 of policy "p" is damaged: x; y, set 4 of policy "" is there`
	if got := strings.Join(becomes(before, after), ", "); got != want {
		t.Errorf("%s", got)
	}
}
