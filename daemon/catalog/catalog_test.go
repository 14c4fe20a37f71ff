package catalog

import (
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
	}, map[string]api.Manifest{"b": {ID: "b", Policy: "db", State: api.Complete}, "z": {ID: "z"}})

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
	m := Assemble([]provider.Snapshot{lost, fleeting}, known).Sets[0]
	if m.State != api.Damaged || len(m.Reasons) != 2 || m.Volumes[0].Invalid == "" || m.Volumes[0].Volatile || !m.Volumes[1].Volatile {
		t.Errorf("got %+v", m)
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
