package thaw

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fermata-project/fermata/daemon/journal"
	"github.com/fermata-project/fermata/fsfreeze/guard"
	"github.com/fermata-project/fermata/fsfreeze/rescue"
)

var heldSrv = rescue.Held{Filesystems: []rescue.HeldFilesystem{{Point: "/srv", Dev: 7}}, Devices: []uint64{9}}

func write(t *testing.T, dir, name string, steps ...[2]string) *journal.Journal {
	t.Helper()
	j, err := journal.Create(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range steps {
		var data any
		if s[1] == "doing" {
			data = heldSrv
		}
		if err := j.Write(s[0], journal.State(s[1]), data); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { j.Close() })
	return j
}

// What is ours is what a transaction held that was in its window when its journal ends.
func TestTransactions(t *testing.T) {
	dir, notes := t.TempDir(), t.TempDir()
	write(t, dir, "armed", [2]string{"probe", "doing"}, [2]string{"probe", "done"}, [2]string{"arm", "doing"})
	write(t, dir, "probing", [2]string{"probe", "doing"})
	write(t, dir, "window", [2]string{"probe", "doing"}, [2]string{"probe", "done"}, [2]string{"window", "doing"})
	write(t, dir, "thawed", [2]string{"window", "doing"}, [2]string{"window", "failed"})
	write(t, dir, "guarded", [2]string{"window", "doing"})
	write(t, dir, "halfguarded", [2]string{"window", "doing"})
	for name, r := range map[string]guard.Report{
		"guarded":     {Reason: "daemon died", Released: []string{"/srv"}},
		"halfguarded": {Reason: "daemon died", Released: []string{"device 0:9"}, Errors: []string{"cannot release /srv"}},
	} {
		if err := guard.WriteNote(notes, name, r); err != nil {
			t.Fatal(err)
		}
	}
	left, err := journal.Leftovers(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := transactions(left, notes)
	if err != nil {
		t.Fatal(err)
	}
	want := []rescue.Transaction{
		{Set: "guarded", Held: heldSrv, Released: []string{"/srv"}, Finished: true},
		{Set: "halfguarded", Held: heldSrv, Released: []string{"device 0:9"}},
		{Set: "probing", Held: heldSrv},
		{Set: "window", Held: heldSrv},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if err := os.WriteFile(filepath.Join(notes, "window.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := transactions(left, notes); err == nil || len(got) != 4 || got[3].Finished {
		t.Errorf("a note that cannot be read: got %+v, %v", got, err)
	}
}

func TestAccount(t *testing.T) {
	fs := func(r rescue.Result) rescue.Outcome {
		return rescue.Outcome{Kind: rescue.KindFilesystem, Dev: 7, Result: r}
	}
	dev := func(r rescue.Result) rescue.Outcome {
		return rescue.Outcome{Kind: rescue.KindDevice, Dev: 9, Result: r}
	}
	for name, tt := range map[string]struct {
		before   []string
		outcomes []rescue.Outcome
		names    []string
		complete bool
	}{
		"both released":               {nil, []rescue.Outcome{dev(rescue.Released), fs(rescue.Released)}, []string{"device 0:9", "/srv"}, true},
		"the device not suspended":    {nil, []rescue.Outcome{fs(rescue.Released)}, []string{"/srv"}, true},
		"nothing frozen":              {nil, []rescue.Outcome{fs(rescue.Free)}, nil, true},
		"the filesystem not asked":    {nil, []rescue.Outcome{dev(rescue.Released)}, []string{"device 0:9"}, false},
		"the filesystem stuck":        {nil, []rescue.Outcome{fs(rescue.Stuck)}, nil, false},
		"the device refused":          {nil, []rescue.Outcome{dev(rescue.Failed), fs(rescue.Released)}, []string{"/srv"}, false},
		"the rest released by others": {[]string{"/srv"}, []rescue.Outcome{dev(rescue.Released)}, []string{"device 0:9"}, true},
	} {
		names, complete := account(rescue.Transaction{Set: "s", Held: heldSrv, Released: tt.before}, tt.outcomes)
		if d := cmp.Diff(tt.names, names); d != "" || complete != tt.complete {
			t.Errorf("%s: complete %v, want %v; names (-want +got):\n%s", name, complete, tt.complete, d)
		}
	}
}

// A note is for the dead: a living daemon's journal is open.
func TestNotesAreForTheDead(t *testing.T) {
	dir, notes := t.TempDir(), t.TempDir()
	lives := write(t, dir, "lives", [2]string{"window", "doing"})
	write(t, dir, "died", [2]string{"window", "doing"}).Close()
	left, err := journal.Leftovers(dir)
	if err != nil {
		t.Fatal(err)
	}
	all, err := transactions(left, notes)
	if err != nil {
		t.Fatal(err)
	}
	freed := []rescue.Outcome{{Kind: rescue.KindFilesystem, Dev: 7, Result: rescue.Released}}
	if err := leaveNotes(notes, left, all, freed); err != nil {
		t.Fatal(err)
	}
	r, found, err := guard.ReadNote(notes, "died")
	if d := cmp.Diff(guard.Report{Reason: reason, Released: []string{"/srv"}}, r); d != "" || !found || err != nil {
		t.Errorf("note %v, %v, (-want +got):\n%s", found, err, d)
	}
	if _, found, _ := guard.ReadNote(notes, "lives"); found {
		t.Error("a note was left for a daemon that lives")
	}
	if err := lives.Close(); err != nil {
		t.Fatal(err)
	}
}

// A release that cannot be noted is not all that was asked for: the daemon's next start would thaw somebody else's freeze.
func TestUntold(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "died", [2]string{"window", "doing"}).Close()
	left, err := journal.Leftovers(dir)
	if err != nil {
		t.Fatal(err)
	}
	all, err := transactions(left, dir)
	if err != nil {
		t.Fatal(err)
	}
	r := Report{Outcomes: []rescue.Outcome{{Kind: rescue.KindFilesystem, Dev: 7, Result: rescue.Released}}}
	if !r.OK() {
		t.Error("released, and not OK")
	}
	r.told(leaveNotes("/dev/null/notes", left, all, r.Outcomes))
	if r.OK() || len(r.Problems) == 0 || !strings.Contains(r.Problems[0], "may thaw it again") || !strings.Contains(r.Problems[0], "cannot leave a note") {
		t.Errorf("got %+v", r)
	}
}
