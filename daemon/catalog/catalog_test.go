package catalog

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm/provider"
)

func snap(set, name string, members int, flags ...string) provider.Snapshot {
	s := provider.Snapshot{Provider: "thin", Set: provider.Set{ID: set, Members: members}, Name: name, Origin: name, Consistency: "filesystem"}
	for _, f := range flags {
		s.Armed = s.Armed || f == "armed"
		s.Scratch = s.Scratch || f == "scratch"
	}
	return s
}

func TestAssemble(t *testing.T) {
	c := Assemble([]provider.Snapshot{
		snap("b", "vg/1", 2), snap("b", "vg/2", 2), // whole
		snap("a", "vg/3", 2),                                // one is gone
		snap("c", "vg/4", 2), snap("c", "vg/5", 2, "armed"), // a crash while finishing
		snap("b", "vg/6", 2, "scratch"),
	}, map[string]api.Manifest{"b": {ID: "b", Policy: "db", State: api.Complete}, "z": {ID: "z"}}, "here")

	var got []string
	for _, m := range c.Sets {
		got = append(got, m.ID+" "+string(m.State)+" "+m.Policy)
	}
	if want := []string{"a damaged ", "b complete db"}; !cmp.Equal(got, want) {
		t.Errorf("sets: got %q, want %q", got, want)
	}
	if len(c.Half) != 2 || c.Half[0].Name != "vg/4" || len(c.Scratch) != 1 || len(c.Snapshots["b"]) != 2 {
		t.Errorf("got %+v", c)
	}
	if a := c.Sets[0]; len(a.Volumes) != 1 || a.Volumes[0].Name != "vg/3" || a.Consistency != api.Filesystem {
		t.Errorf("from tags: got %+v", a)
	}
}

// A snapshot whose content is lost damages its set; one that a reboot takes says so.
func TestAssembleInvalid(t *testing.T) {
	lost, fleeting := snap("a", "vg/1", 2), snap("a", "vg/2", 2)
	lost.Invalid, fleeting.Volatile = "its area overflowed", true
	known := map[string]api.Manifest{"a": {ID: "a", Reasons: []string{"one"}, Volumes: []api.Snapshot{{Name: "vg/1"}, {Name: "vg/2"}}}}
	m := Assemble([]provider.Snapshot{lost, fleeting}, known, "here").Sets[0]
	if m.State != api.Damaged || len(m.Reasons) != 2 || m.Volumes[0].Invalid == "" || m.Volumes[0].Volatile || !m.Volumes[1].Volatile {
		t.Errorf("got %+v", m)
	}
	partial := snap("b", "vg/1", 1)
	partial.Omits = []string{"nested"}
	if m := Assemble([]provider.Snapshot{partial}, nil, "").Sets[0]; len(m.Volumes[0].Omits) != 1 {
		t.Errorf("what it omits is lost with its manifest: %+v", m)
	}
	if v := known["a"].Volumes; v[0].Invalid != "" || v[1].Volatile {
		t.Errorf("the stored manifest was changed: %+v", v)
	}
}

func TestStore(t *testing.T) {
	s := Store{Dir: filepath.Join(t.TempDir(), "sets")}
	if m, err := s.Load(); len(m) != 0 || err != nil {
		t.Fatalf("empty: got %v, %v", m, err)
	}
	m := api.Manifest{Version: 1, ID: "x", Created: time.Now().UTC().Truncate(time.Microsecond), Window: time.Millisecond,
		Volumes: []api.Snapshot{{Volume: "vg/a", Name: "vg/a.x"}}}
	if err := s.Save(m); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir, "bad.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := s.Load()
	if err == nil {
		t.Error("the bad file went unnoticed")
	}
	if diff := cmp.Diff(map[string]api.Manifest{"x": m}, got); diff != "" {
		t.Error(diff)
	}
	if err := s.Remove("x"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("x"); err != nil {
		t.Errorf("twice: %v", err)
	}
	if entries, _ := os.ReadDir(s.Dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

// Ids and mount points become paths: what leads out of a directory is no snapshot of ours.
func TestWellFormed(t *testing.T) {
	for _, tt := range []struct {
		id, point string
		ok        bool
	}{
		{"20261120T114653_7f3a", "/srv", true},
		{"20261120T114653_7f3a", "", true},
		{"20261120T114653_7f3a", "/srv/with space\n", true},
		{"", "", false},
		{"..", "", false},
		{"../../etc", "/passwd", false},
		{"a/b", "", false},
		{"a\x00", "", false},
		{"20261120T114653_7f3a", "srv", false},
		{"20261120T114653_7f3a", "/srv/../../etc", false},
		{"20261120T114653_7f3a", "../../etc", false},
	} {
		good, err := WellFormed([]provider.Snapshot{{Set: provider.Set{ID: tt.id}, MountPoint: tt.point}})
		if (len(good) == 1) != tt.ok || (err == nil) != tt.ok {
			t.Errorf("%q, %q: got %v, %v", tt.id, tt.point, good, err)
		}
	}
}

// Several hosts see the volumes: what another one has not finished is its own, what it has finished is a set like any other.
func TestOtherHosts(t *testing.T) {
	of := func(machine string, s provider.Snapshot) provider.Snapshot {
		s.Machine, s.Host = machine, "host-"+machine
		return s
	}
	c := Assemble([]provider.Snapshot{
		of("there", snap("a", "vg/1", 2, "armed")), of("there", snap("a", "vg/2", 2)), // it finishes it at this moment
		of("here", snap("b", "vg/3", 1, "armed")),
		snap("c", "vg/4", 1, "armed"), // before there were such tags
		of("there", snap("d", "vg/5", 1)),
		of("here", snap("e", "vg/6", 2, "armed")), of("there", snap("e", "vg/7", 2)), // this host was deleting it
		of("there", snap("d", "vg/8", 1, "scratch")), of("here", snap("d", "vg/9", 1, "scratch")), snap("d", "vg/10", 1, "scratch"),
	}, nil, "here")
	names := func(snaps []provider.Snapshot) (out []string) {
		for _, s := range snaps {
			out = append(out, s.Name)
		}
		return out
	}
	for what, x := range map[string][2][]string{
		"half-made":  {names(c.Half), {"vg/3", "vg/4", "vg/6", "vg/7"}},
		"elsewhere":  {names(c.Elsewhere), {"vg/1", "vg/2", "vg/8"}},
		"throw-away": {names(c.Scratch), {"vg/9", "vg/10"}},
	} {
		if !cmp.Equal(x[0], x[1]) {
			t.Errorf("%s: got %q, want %q", what, x[0], x[1])
		}
	}
	if len(c.Sets) != 1 || c.Sets[0].ID != "d" || c.Sets[0].Host != "host-there" || c.Sets[0].State != api.Complete || len(c.Sets[0].Reasons) != 1 {
		t.Errorf("sets: %+v", c.Sets)
	}
	nobody := Assemble([]provider.Snapshot{of("there", snap("a", "vg/1", 1, "armed"))}, nil, "")
	if len(nobody.Half) != 0 || len(nobody.Elsewhere) != 1 {
		t.Errorf("without a machine-id: %+v", nobody)
	}
}

// A time that nobody can write down, in a tag that anybody may have written, takes no listing down.
func TestOddTime(t *testing.T) {
	for _, micros := range []int64{1 << 62, -1 << 62, 0, 1767225600e6, 1767225600e9} {
		s := snap("a", "vg/1", 1)
		s.Created = micros
		m := Assemble([]provider.Snapshot{s}, nil, "").Sets[0]
		if _, err := json.Marshal(m); err != nil {
			t.Errorf("%d: %v", micros, err)
		}
	}
}

// A volume group was copied while a set was made, and the copy attached to the same host (vgimportclone): its half-made snapshots
// cost the original's finished ones nothing.
func TestCopiedGroup(t *testing.T) {
	copied := func(s provider.Snapshot, name string) provider.Snapshot {
		s.Name = name
		return s
	}
	one, two := snap("a", "vg/1", 2, "armed"), snap("a", "vg/2", 2, "armed")
	for _, tt := range []struct {
		name    string
		snaps   []provider.Snapshot
		state   api.State
		doubled int
	}{
		{"all of it", []provider.Snapshot{snap("a", "vg/1", 2), snap("a", "vg/2", 2), copied(one, "copy/1"), copied(two, "copy/2")}, api.Complete, 2},
		{"one of two groups", []provider.Snapshot{copied(one, "copy/1"), snap("a", "vg/1", 2), snap("a", "vg/2", 2)}, api.Complete, 1},
		{"the original has lost one since", []provider.Snapshot{snap("a", "vg/1", 2), copied(one, "copy/1")}, api.Damaged, 1},
		{"and is half-made, too", []provider.Snapshot{one, two, copied(one, "copy/1"), copied(two, "copy/2")}, "", 4},
		{"of origins that are not known", []provider.Snapshot{
			{Set: one.Set, Name: "vg/1"}, {Set: one.Set, Name: "vg/2"}, {Set: one.Set, Name: "copy/1", Armed: true},
		}, api.Complete, 1},
	} {
		c := Assemble(tt.snaps, nil, "")
		if len(c.Half) > 0 || len(c.Doubled) != tt.doubled || len(c.Sets) > 0 != (tt.state != "") || tt.state != "" && c.Sets[0].State != tt.state {
			t.Errorf("%s: got %+v", tt.name, c)
		}
	}
	if c := Assemble([]provider.Snapshot{one, two}, nil, ""); len(c.Half) != 2 || len(c.Doubled) > 0 {
		t.Errorf("not doubled: got %+v", c)
	}
}
