package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/journal"
	"github.com/fermata-project/fermata/hooks"
)

// Whoever was asked to prepare, by a daemon that died, is told by the next one that the set does not come about, and to let go
// before, if it was asked to hold: unless the set is finished. However the daemon died, and though one writer cannot be told.
func TestDeathIsToldToWriters(t *testing.T) {
	told := map[string]int{}
	for _, x := range deaths(t, func(*world) {}, "") {
		for i, text := range texts(x.since, x.text) {
			name := fmt.Sprintf("%s, journal %d", x.at, i)
			w := x.live(text, true)
			finished := w.finishedSet()
			var l journal.Leftover
			if left, err := journal.Leftovers(filepath.Join(w.dir, "journal")); err != nil || len(left) > 1 {
				t.Fatal(err)
			} else if len(left) == 1 {
				l = left[0]
			}
			_, _, prepared := l.Last("prepare-writers")
			_, _, froze := l.Last("freeze-writers")
			thaw, _, _ := l.Last("thaw-writers")
			var want []hooks.Phase
			if prepared && finished == "" {
				if froze && thaw != journal.Done {
					want = append(want, hooks.PhaseThaw)
				}
				want = append(want, hooks.PhaseAbort)
			}
			if len(want) > 0 && i == 0 { // one fails
				w.tap = on("writer-abort db#1", false, func() error { return errInjected })
			}
			d := w.daemon()
			if err := d.Start(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			w.tap = nil
			w.clean(t, d)
			for _, writer := range []string{"web", "db"} {
				var got []hooks.Phase
				if x := w.writers[writer]; x != nil {
					got = x.told
					for _, ev := range x.events {
						if ev.Set != l.Name || ev.Policy != "p" || ev.Outcome != hooks.OutcomeFailed {
							t.Errorf("%s: writer %s heard %+v", name, writer, ev)
						}
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s: writer %s was told %v, want %v", name, writer, got, want)
				}
			}
			told[fmt.Sprint(want)]++
		}
	}
	if len(told) != 3 {
		t.Errorf("cases: %v", told)
	}
}

// A recovery that dies while it tells the writers has noted that nothing is held any more: the next one tells them again, and thaws
// nothing that somebody else has frozen meanwhile.
func TestDeathWhileTellingWriters(t *testing.T) {
	for _, x := range deaths(t, func(*world) {}, "") {
		if !strings.HasPrefix(x.at, "before Commit") {
			continue
		}
		w := x.live(append(slices.Clone(x.text), "torn"...), false)
		var died *world
		w.tap = on("writer-abort db#1", false, func() error { died = w.after(); return nil })
		if err := w.daemon().Start(t.Context()); err != nil || died == nil {
			t.Fatal(err, died)
		}
		died.freeze(devA, "theirs")
		d := died.daemon()
		if err := d.Start(t.Context()); err != nil {
			t.Error(err)
		}
		died.clean(t, d)
		if f := died.frozen("theirs"); len(f) != 1 {
			t.Errorf("somebody else's freeze was thawed: %v", f)
		}
		for _, name := range []string{"web", "db"} {
			if x := died.writers[name]; x == nil || !slices.Contains(x.told, hooks.PhaseAbort) {
				t.Errorf("writer %s was not told", name)
			}
		}
		return
	}
	t.Error("no death before a commit")
}

// A writer that is not configured any more, and a journal of an earlier version, cost nobody a start.
func TestNobodyToTell(t *testing.T) {
	for _, data := range []any{nil, asked{Writers: []string{"gone", "web"}}} {
		w := newWorld(t)
		w.writing = slices.DeleteFunc(w.writing, func(c config.Writer) bool { return c.Name == "db" })
		w.policy.Writers = []string{"web"}
		j, err := journal.Create(filepath.Join(w.dir, "journal"), "20261122T000000_0001")
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Write("prepare-writers", journal.Doing, data); err != nil {
			t.Fatal(err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		d := w.daemon()
		if err := d.Start(t.Context()); err != nil {
			t.Error(err)
		}
		w.clean(t, d)
		if x := w.writers["web"]; (x != nil) != (data != nil) {
			t.Errorf("%+v: %+v", data, x)
		}
		if left, err := os.ReadDir(filepath.Join(w.dir, "journal")); err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	}
}
