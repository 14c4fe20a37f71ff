package daemon

import (
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/daemon/api"
)

// TestRecoveryKilledAnywhere kills the daemon in a set, and then the one that repairs what is left, at every call that it
// makes, and between the two files that it removes. A third one finds everything that the second has not done.
func TestRecoveryKilledAnywhere(t *testing.T) {
	points := map[string]bool{}
	for _, x := range deaths(t, func(*world) {}, "") {
		for _, guarded := range x.guards() {
			left := x.live(x.text, guarded)
			finished := left.finishedSet()
			for i, m := range repairs(t, left) {
				points[m.at] = true
				name := fmt.Sprintf("the set died %s, guard alive: %v, its repair died %s (%d)", x.at, guarded, m.at, i)
				w := m.world.live(m.files)
				d := w.daemon()
				if err := d.Start(t.Context()); err != nil {
					t.Errorf("%v", err)
				}
				w.clean(t, d)
				sets, snaps := d.Sets(), w.snapshots()
				whole := len(sets) == 2 && sets[1].ID == finished && sets[1].State == api.Complete && len(snaps) == 4
				nothing := len(sets) == 1 && len(snaps) == 0
				if finished != "" && !whole || finished == "" && !nothing || sets[0].ID != oldSet {
					t.Errorf("finished set %q, known: %+v, left: %+v", finished, sets, snaps)
				}
				if notes, _ := filepath.Glob(filepath.Join(w.dir, "notes", "*")); len(notes) > 0 {
					t.Errorf("the guard's notes are still there: %v", notes)
				}
				if t.Failed() {
					t.Fatal(name)
				}
			}
		}
	}
	t.Logf("%d points of the repair", len(points))
	for _, want := range []string{"rescue", "Delete", "note"} {
		found := false
		for at := range points {
			found = found || strings.Contains(at, want)
		}
		if !found {
			t.Errorf("no repair died at %s: %v", want, points)
		}
	}
}

// repairs starts a daemon on what a dead one has left, and returns the world at every moment of that: before each call,
// after the last, and after the journal was removed and before the guard's note was.
func repairs(t *testing.T, left *world) []death {
	t.Helper()
	var all []death
	before := left.still()
	if name, _ := before.journalFile(); name != "" {
		files := maps.Clone(before.files)
		delete(files, name)
		for note := range files {
			if strings.HasPrefix(note, "/notes/") { // written when everything is released
				m := left.still()
				m.files = files
				all = append(all, death{at: "before the note was removed", world: m})
			}
		}
	}
	left.tap = func(call string, after bool) error {
		if !after {
			left.stopping.Lock()
			defer left.stopping.Unlock()
			all = append(all, death{at: "before " + call, world: left.still()})
		}
		return nil
	}
	d := left.daemon()
	if err := d.Start(t.Context()); err != nil {
		t.Error(err)
	}
	left.tap = nil
	return append(all, death{at: "end", world: left.still()})
}
