package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/journal"
	"github.com/fermata-project/fermata/fsfreeze/guard"
)

// death is the world at the moment at which the daemon dies.
type death struct {
	*world
	at    string
	since []byte // the journal's text at the moment before
	text  []byte // nil: there is none
	set   string // that the guard was armed for; empty: it was not
}

// deaths takes a set, with one call failing unless it is empty, and returns the world after the daemon's death at every
// moment of it: between any two calls. Moments before the failure are those of the set that succeeds, and left out.
func deaths(t *testing.T, prepare func(w *world), fails string) []death {
	t.Helper()
	w := newWorld(t)
	prepare(w)
	var all []death
	failed := fails == ""
	var since []byte
	now := func(at string) {
		d := death{at: at, world: w.still(), since: since}
		_, d.text = d.journalFile()
		if since = d.text; !failed {
			return
		}
		w.mu.Lock()
		if w.guard != nil {
			d.set = w.guard.set
		}
		w.mu.Unlock()
		all = append(all, d)
	}
	w.tap = func(call string, after bool) error {
		if !after {
			w.stopping.Lock() // one call at a time, so that a moment is one
			defer w.stopping.Unlock()
			now("before " + call)
			if call == fails {
				failed = true
				return errInjected
			}
		}
		return nil
	}
	_, _ = w.take(t.Context(), w.daemon()) // how it ends is another test's concern
	now("end")
	return all
}

// guards are the guard's fates: alive, or dead too. One that was not armed does not matter.
func (x death) guards() []bool {
	if x.set == "" {
		return []bool{false}
	}
	return []bool{true, false}
}

// texts are the journals with which the daemon can have died between two moments: everything up to each line's end that
// was written in between, and a torn last line.
func texts(before, after []byte) [][]byte {
	if after == nil || !bytes.HasPrefix(after, before) {
		return [][]byte{after}
	}
	out := [][]byte{}
	for i := len(before); i <= len(after); i++ {
		if i == len(before) || after[i-1] == '\n' {
			out = append(out, after[:i:i])
		}
	}
	if len(after) > len(before) {
		out = append(out, after[:len(after)-7:len(after)-7])
	}
	return out
}

// TestDeathAnywhere kills the daemon at every journalled record and after every effect of a set that succeeds, and of
// sets that fail in each step, with the guard alive and without it, and looks what a new daemon makes of what is left.
func TestDeathAnywhere(t *testing.T) {
	plan := rehearse(t)
	last := map[string]string{"": ""} // of each step, the last call: everything before it has to be undone
	for _, call := range plan.calls {
		last[plan.steps[call]] = call
	}
	for step, fails := range last {
		t.Run("failing in "+step, func(t *testing.T) {
			for _, x := range deaths(t, func(*world) {}, fails) {
				for i, text := range texts(x.since, x.text) {
					for _, guarded := range x.guards() {
						name := fmt.Sprintf("%s, journal %d, guard alive: %v", x.at, i, guarded)
						x.reborn(t, name, text, guarded)
					}
				}
			}
		})
	}
}

// reborn starts a new daemon after a death, and checks that nothing is held, nothing is half-made, and nothing that was
// finished is lost.
func (x death) reborn(t *testing.T, name string, text []byte, guarded bool) {
	t.Helper()
	w := x.live(text, guarded)
	finished := w.finishedSet()
	d := w.daemon()
	if err := d.Start(t.Context()); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	failed := t.Failed()
	w.clean(t, d)
	sets := d.Sets()
	if len(sets) == 0 || sets[0].ID != oldSet || sets[0].State != api.Complete || sets[0].Labels["is"] != "old" {
		t.Errorf("the old set is lost: %+v", sets)
	}
	if left := w.snapshots(); finished == "" && len(left) > 0 || finished != "" && len(left) != 4 {
		t.Errorf("finished set %q, left: %+v", finished, left)
	}
	if has := len(sets) == 2; has != (finished != "") || has && (sets[1].ID != finished || sets[1].State != api.Complete) {
		t.Errorf("finished set %q, known: %+v", finished, sets[1:])
	}
	if notes, _ := filepath.Glob(filepath.Join(w.dir, "notes", "*")); len(notes) > 0 {
		t.Errorf("the guard's notes are still there: %v", notes)
	}
	if strings.Contains(name, "journal 0") {
		if _, err := w.take(t.Context(), d); err != nil {
			t.Errorf("the new daemon cannot take a set: %v", err)
		}
	}
	if t.Failed() && !failed {
		t.Fatalf("that was after a death %s; the journal was\n%s", name, text)
	}
}

// live is the world after a death with that journal, and with what the guard has done since.
func (x death) live(text []byte, guarded bool) *world {
	files := maps.Clone(x.files)
	if name, _ := x.journalFile(); name != "" {
		files[name] = text
	}
	w := x.world.live(files)
	if guarded && x.set != "" {
		w.guardReleases(x.set)
	}
	return w
}

// guardReleases does what a guard does that sees the daemon die.
func (w *world) guardReleases(set string) {
	report := guard.Report{Reason: guard.Died.String()}
	for _, dev := range w.suspended() {
		if w.resume(uint64(dev)) == nil {
			report.Released = append(report.Released, dev.String())
		}
	}
	for _, s := range w.systems {
		if s.frozen == "ours" {
			s.frozen = ""
			report.Released = append(report.Released, s.point)
		}
	}
	w.note(set, report)
}

// note is what a guard leaves of its end of a hold.
func (w *world) note(set string, report guard.Report) {
	b, err := json.Marshal(report)
	if err == nil {
		err = os.MkdirAll(filepath.Join(w.dir, "notes"), 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(w.dir, "notes", set+".json"), b, 0o600)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// What the guard released after the daemon's death the next daemon counts, once.
func TestGuardReleasesAreCounted(t *testing.T) {
	tried := false
	for _, x := range deaths(t, func(*world) {}, "") {
		held := len(x.suspended()) + len(x.frozen("ours"))
		if held == 0 || x.set == "" {
			continue
		}
		tried = true
		w := x.live(x.text, true)
		for _, want := range []int{held, 0} {
			d, told := w.daemon(), 0
			d.o.Released = func(n int) { told += n }
			if err := d.Start(t.Context()); err != nil {
				t.Error(err)
			}
			if told != want {
				t.Errorf("after a death %s: %d released, %d counted", x.at, want, told)
			}
		}
	}
	if !tried {
		t.Error("the daemon never dies while it holds anything")
	}
}

// What the guard could not release, and says so, the next daemon releases.
func TestGuardThatFails(t *testing.T) {
	for _, x := range deaths(t, func(*world) {}, "") {
		if x.set == "" {
			continue
		}
		for i, text := range texts(x.since, x.text) {
			w := x.live(text, false)
			w.note(x.set, guard.Report{Reason: guard.Died.String(), Errors: []string{"cannot release /srv/a: gave up"}})
			d := w.daemon()
			if err := d.Start(t.Context()); err != nil {
				t.Errorf("%s, journal %d: %v", x.at, i, err)
			}
			if w.clean(t, d); t.Failed() {
				t.Fatalf("that was after a death %s; the journal was\n%s", x.at, text)
			}
		}
	}
}

// finishedSet is the set whose last snapshot has been finished; empty if there is none.
func (w *world) finishedSet() string {
	snaps := w.snapshots()
	for _, s := range snaps {
		if s.Armed {
			return ""
		}
	}
	if len(snaps) == 0 {
		return ""
	}
	return snaps[0].Set.ID
}

// Somebody else's freeze, which a set met and was refused for, outlives the daemon's death at whatever moment, unless
// nobody is left who could tell whose it is: guard and daemon died together in the probe.
func TestDeathLeavesForeignFreezeAlone(t *testing.T) {
	for _, x := range deaths(t, func(w *world) { w.freeze(devB, "theirs") }, "") {
		for i, text := range texts(x.since, x.text) {
			for _, guarded := range x.guards() {
				if !guarded && lastState(t, text) == "probe "+string(journal.Doing) {
					continue
				}
				w := x.live(text, guarded)
				d := w.daemon()
				if err := d.Start(t.Context()); err != nil {
					t.Error(err)
				}
				w.clean(t, d)
				if f := w.frozen("theirs"); !slices.Equal(f, []string{"b"}) {
					t.Fatalf("%s, journal %d, guard alive: %v: frozen by somebody else: %v; the journal was\n%s", x.at, i, guarded, f, text)
				}
			}
		}
	}
}

// lastState is the last record of a journal: step and state.
func lastState(t *testing.T, text []byte) string {
	records, err := journal.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if len(records) == 0 {
		return ""
	}
	r := records[len(records)-1]
	return r.Step + " " + string(r.State)
}

// A power cut takes the journal and everything that is frozen or suspended; what is left is told by the snapshots.
func TestPowerCutAnywhere(t *testing.T) {
	for _, x := range deaths(t, func(*world) {}, "") {
		w := x.world.live(x.files)
		for _, s := range w.systems {
			s.frozen = ""
		}
		for _, dev := range w.suspended() {
			if err := w.resume(uint64(dev)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.RemoveAll(filepath.Join(w.dir, "journal")); err != nil {
			t.Fatal(err)
		}
		finished := w.finishedSet()
		d := w.daemon()
		if err := d.Start(t.Context()); err != nil {
			t.Errorf("%s: %v", x.at, err)
		}
		if n := len(w.snapshots()); finished == "" && n > 0 || finished != "" && n != 4 {
			t.Errorf("%s: finished set %q, %d snapshots are left", x.at, finished, n)
		}
		if n := len(d.Sets()); n != 1 && finished == "" || n != 2 && finished != "" {
			t.Errorf("%s: finished set %q, %d sets are known", x.at, finished, n)
		}
	}
}

// A lost state directory loses no set.
func TestLostStateDirectory(t *testing.T) {
	w := rehearse(t)
	if err := os.RemoveAll(filepath.Join(w.dir, "state")); err != nil {
		t.Fatal(err)
	}
	d := w.daemon()
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	sets := d.Sets()
	if st, err := os.Stat(filepath.Join(w.dir, "state")); err != nil || st.Mode() != os.ModeDir|0o700 {
		t.Errorf("the state directory: %v, %v", st, err)
	}
	if len(sets) != 2 || sets[1].State != api.Complete || sets[1].Consistency != api.Crash || sets[1].Policy != "p" || len(sets[1].Volumes) != 4 {
		t.Errorf("got %+v", sets)
	}
}

// A deletion that dies half-way is finished by the next start: nothing looks like a set that has lost a part.
func TestDeathWhileDeleting(t *testing.T) {
	done := newWorld(t)
	done.policy.Volumes = done.policy.Volumes[:2]
	if _, err := done.take(t.Context(), done.daemon()); err != nil {
		t.Fatal(err)
	}
	id := done.snapshots()[0].Set.ID
	for n := 1; ; n++ {
		w := done.after()
		d := w.daemon()
		if err := d.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		var moment *world
		seen := 0
		w.tap = func(_ string, after bool) error {
			if !after {
				if seen++; seen == n {
					moment = w.after()
				}
			}
			return nil
		}
		if err := d.DeleteSet(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		w.clean(t, d)
		if len(w.snapshots()) > 0 || len(d.Sets()) != 1 {
			t.Fatalf("left after deletion: %+v", w.snapshots())
		}
		if moment == nil {
			return
		}
		next := moment.daemon()
		if err := next.Start(t.Context()); err != nil {
			t.Error(err)
		}
		sets, left := next.Sets(), len(moment.snapshots())
		whole := len(sets) == 2 && sets[1].State == api.Complete && left == 2
		if !whole && (len(sets) != 1 || left != 0) {
			t.Errorf("death at call %d: %d snapshots, sets %+v", n, left, sets)
		}
	}
}

// A corrupt journal and a manifest that cannot be read are told, and cost nothing else.
func TestDamagedFiles(t *testing.T) {
	w := rehearse(t)
	for name, text := range map[string]string{
		"journal/20260101T000000_dead.journal": "00000000 {}\n",
		"state/sets/" + oldSet + ".json":       "{",
	} {
		path := filepath.Join(w.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := w.daemon()
	if err := d.Start(t.Context()); err == nil || len(d.Status().Problems) < 2 {
		t.Errorf("got %v, problems %v", err, d.Status().Problems)
	}
	if sets := d.Sets(); len(sets) != 2 || sets[0].ID != oldSet || sets[1].State != api.Complete {
		t.Errorf("got %+v", sets)
	}
	if err := os.Remove(filepath.Join(w.dir, "journal", "20260101T000000_dead.journal")); err != nil {
		t.Error(err)
	}
	if _, err := w.take(t.Context(), d); err != nil {
		t.Error(err)
	}
	w.clean(t, d)
}

// A leftover is repaired once, whatever else goes wrong at that start: what is frozen at the next one may be somebody
// else's.
func TestLeftoverIsForgottenAtOnce(t *testing.T) {
	w := rehearse(t)
	d := w.daemon()
	j, err := journal.Create(d.journalDir(), "20260101T000000_beef")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.Write("window", journal.Doing, held{}), j.Close()); err != nil {
		t.Fatal(err)
	}
	manifest := filepath.Join(w.dir, "state/sets", oldSet+".json")
	if err := errors.Join(os.MkdirAll(filepath.Dir(manifest), 0o755), os.WriteFile(manifest, []byte("{"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context()); err != nil || d.problemsWith("cannot read "+manifest) != 1 {
		t.Errorf("the bad manifest went unnoticed: %v, %q", err, d.Status().Problems)
	}
	if left, err := journal.Leftovers(d.journalDir()); len(left) != 0 || err != nil {
		t.Errorf("left: %v, %v", left, err)
	}
}

// Daemon and guard died together. The guard that has been started since will never write a note of their set, and what they
// held is not kept waiting for one.
func TestAnotherGuardsNoteIsNotAwaited(t *testing.T) {
	w := rehearse(t)
	d := w.daemon()
	socket, notes := d.o.Host.GuardPaths()
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- (&guard.Server{Notes: notes, Log: slog.New(slog.DiscardHandler)}).Serve(ctx, l) }()
	defer func() {
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
	}()
	w.freeze(devB, "ours")
	j, err := journal.Create(d.journalDir(), "20260101T000000_beef")
	if err == nil {
		err = errors.Join(j.Write("window", journal.Doing, held{Filesystems: []heldFS{{Point: "b", Dev: devB}}}), j.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := d.Start(t.Context()); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took >= noteTime { // it does not wait for a part of that
		t.Errorf("it took %v", took)
	}
	if f := w.frozen("ours"); len(f) > 0 {
		t.Errorf("still frozen: %v", f)
	}
}
