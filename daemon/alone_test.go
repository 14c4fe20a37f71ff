package daemon

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/journal"
)

// One daemon at a time has a RunDir. One that is dead, and not gone yet, keeps no other from starting.
func TestAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	if err := alone(dir, 0); err != nil {
		t.Fatal(err)
	}
	err := alone(dir, 0)
	if !errors.Is(err, ErrNotAlone) || !strings.Contains(err.Error(), "process "+strconv.Itoa(os.Getpid())+",") {
		t.Errorf("a second one: %v", err)
	}
	zombie := exec.Command("/bin/true")
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	defer zombie.Wait()
	lock := filepath.Join(dir, "fermatad.lock")
	if err := os.WriteFile(lock, []byte(strconv.Itoa(zombie.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := alone(dir, 10*time.Second); err != nil { // it ends meanwhile, and nobody has waited for it
		t.Errorf("a dying one: %v", err)
	}
	if err := os.WriteFile(lock, []byte("garbage\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := alone(dir, 0); !errors.Is(err, ErrNotAlone) {
		t.Errorf("one that cannot be found: %v", err)
	}
	if err := alone(lock, 0); err == nil || errors.Is(err, ErrNotAlone) {
		t.Errorf("no directory: %v", err)
	}
}

func TestIsDying(t *testing.T) {
	for status, want := range map[string]bool{
		"Name:\tfermatad\nState:\tS (sleeping)\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\n": false,
		"Name:\tfermatad\nState:\tD (disk sleep)\nSigPnd:\t0000000000000100\n":                          true,
		"Name:\tfermatad\nState:\tD (disk sleep)\nShdPnd:\t0000000000000100\n":                          true,
		"Name:\tfermatad\nState:\tD (disk sleep)\nShdPnd:\t0000000000004000\n":                          false, // SIGTERM
		"Name:\tfermatad\nState:\tT (stopped)\n":                                                        false,
		"Name:\tfermatad\nState:\tZ (zombie)\n":                                                         true,
		"":                                                                                              false,
	} {
		if got := isDying(status); got != want {
			t.Errorf("%q: %v", status, got)
		}
	}
}

// What a living daemon has in flight is not another one's to release or to remove.
func TestStartLeavesAloneWhatLives(t *testing.T) {
	plan := rehearse(t)
	for _, at := range plan.calls {
		name, _, _ := strings.Cut(at, " ")
		if !slices.Contains([]string{"Prepare", "Commit", "PostCommit", "Finalize"}, name) {
			continue
		}
		t.Run(at, func(t *testing.T) {
			w := newWorld(t)
			d, second := w.daemon(), w.daemon()
			w.tap = on(at, false, func() error {
				w.mu.Lock()
				before := len(w.calls)
				w.mu.Unlock()
				err := second.Start(t.Context())
				if err == nil || !strings.Contains(err.Error(), "another fermatad") {
					t.Errorf("the second one says %v", err)
				}
				w.mu.Lock()
				defer w.mu.Unlock()
				for _, call := range w.calls[before:] {
					if strings.HasPrefix(call, "rescue ") || strings.HasPrefix(call, "Delete ") {
						t.Errorf("the second one did %s", call)
					}
				}
				return nil
			})
			m, err := w.take(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			w.everything(t, d, m)
		})
	}
}

// A thread of a dead daemon may still freeze something: what can be released is, and the journal stays, to be looked at again.
func TestStartBesideADyingOne(t *testing.T) {
	w := newWorld(t)
	d := w.daemon()
	second := w.daemon()
	second.o.Alone = true
	stopped := errors.New("it was killed")
	w.tap = on("Commit alpha#1", false, func() error {
		if err := second.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "is still in the kernel") {
			t.Errorf("the second one says %v", err)
		}
		if f, s := w.frozen("ours"), w.suspended(); len(f)+len(s) > 0 {
			t.Errorf("frozen: %v, suspended: %v", f, s)
		}
		if name, _ := w.still().journalFile(); name == "" {
			t.Error("the journal is gone")
		}
		return stopped
	})
	if _, err := w.take(t.Context(), d); !errors.Is(err, stopped) {
		t.Error(err)
	}
	if len(w.snapshots()) > 0 || len(d.Sets()) != 1 || d.Sets()[0].State != api.Complete {
		t.Errorf("%+v", w.snapshots())
	}
}

// What that thread freezes in the end is released.
func TestStartReleasesWhatADyingOneFroze(t *testing.T) {
	w := newWorld(t)
	d := w.daemon()
	d.o.Alone = true
	j, err := journal.Create(d.journalDir(), "20260101T000000_0001")
	if err != nil {
		t.Fatal(err)
	}
	a := w.systems[devA]
	if err := j.Write("window", journal.Doing, held{Filesystems: []heldFS{{Point: a.point, Dev: devA}}}); err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "is still in the kernel") {
		t.Errorf("the start says %v", err)
	}
	w.mu.Lock()
	a.frozen = "ours"
	w.mu.Unlock()
	time.Sleep(5 * dyingPause)
	if f := w.frozen("ours"); len(f) != 1 || len(leftovers(t, d)) != 1 {
		t.Errorf("frozen: %v, %d journals", f, len(leftovers(t, d)))
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); len(w.frozen("ours"))+len(leftovers(t, d)) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("frozen: %v, %d journals", w.frozen("ours"), len(leftovers(t, d)))
		}
	}
}
