package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/catalog"
)

func (d *Daemon) problemsWith(text string) int {
	n := 0
	for _, p := range d.Status().Problems {
		if strings.Contains(p, text) {
			n++
		}
	}
	return n
}

// Garbage in the state directory costs what only it had: the sets are there, can be taken and deleted, and the status says
// what is wrong until it is mended.
func TestGarbageInStateDirectory(t *testing.T) {
	for name, garbage := range map[string]string{
		"empty": "", "no JSON": "\x00\xffgarbage", "of another set": `{"version":1,"id":"20260101T000000_0000"}`, "no object": `[1]`, "huge": strings.Repeat("x", 5<<20),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			file := filepath.Join(w.dir, "state", "sets", oldSet+".json")
			if err := os.WriteFile(file, []byte(garbage), 0o600); err != nil {
				t.Fatal(err)
			}
			d := w.daemon()
			if err := d.Start(t.Context()); err != nil {
				t.Errorf("start: %v", err)
			}
			list := d.Sets()
			if len(list) != 1 || list[0].ID != oldSet || list[0].State != api.Complete || !strings.Contains(strings.Join(list[0].Reasons, "\n"), "the manifest was lost") {
				t.Errorf("sets: %+v", list)
			}
			if d.problemsWith("cannot read "+file+": ") != 1 {
				t.Errorf("problems: %q", d.Status().Problems)
			}
			m, err := w.take(t.Context(), d)
			if err != nil || len(m.Reasons) > 0 && strings.Contains(strings.Join(m.Reasons, "\n"), "after the set was finished") {
				t.Fatalf("%+v, %v", m, err)
			}
			w.everything(t, d, m)
			if err := d.DeleteSet(t.Context(), oldSet); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(file); !os.IsNotExist(err) {
				t.Errorf("the manifest is left: %v", err)
			}
			if err := d.DeleteSet(t.Context(), m.ID); err != nil || len(d.Status().Problems) > 0 {
				t.Errorf("%v, problems: %q", err, d.Status().Problems)
			}
		})
	}
}

// A state directory that cannot be written loses nothing as long as the daemon lives: sets are taken and deleted, with all
// that their manifests say, and written when that is possible again.
func TestUnwritableStateDirectory(t *testing.T) {
	w := newWorld(t)
	d := w.daemon()
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(w.dir, "state", "sets")
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := w.take(t.Context(), d)
	if err != nil || !strings.Contains(strings.Join(m.Reasons, "\n"), "after the set was finished: cannot save the manifest of "+m.ID) {
		t.Fatalf("%+v, %v", m, err)
	}
	w.everything(t, d, m)
	known := func() api.Manifest {
		t.Helper()
		known, _, err := d.find(m.ID)
		if err != nil || known.Policy != "p" || len(known.Writers) != 2 || strings.Contains(strings.Join(known.Reasons, "\n"), "manifest") {
			t.Errorf("%+v, %v", known, err)
		}
		return known
	}
	known()
	if err := d.DeleteSet(t.Context(), oldSet); err != nil {
		t.Errorf("delete: %v", err)
	}
	if d.problemsWith("cannot save the manifest of "+m.ID) != 1 || d.problemsWith("cannot remove the manifest of "+oldSet) != 1 || d.problemsWith("cannot read the manifests") != 1 {
		t.Errorf("problems: %q", d.Status().Problems)
	}
	if len(d.Sets()) != 1 {
		t.Errorf("sets: %+v", d.Sets())
	}

	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if err := d.refresh(t.Context()); err != nil || len(d.Status().Problems) > 0 {
		t.Errorf("%v, problems: %q", err, d.Status().Problems)
	}
	known()
	files, err := filepath.Glob(dir + "/*")
	if err != nil || len(files) != 1 || filepath.Base(files[0]) != m.ID+".json" {
		t.Errorf("files: %v, %v", files, err)
	}
	d = w.daemon()
	if err := d.Start(t.Context()); err != nil {
		t.Error(err)
	}
	known()
}

// A listing says that it does not know what is mounted, rather than that nothing is.
func TestListingWithoutMountTable(t *testing.T) {
	w, d, id := mountable(t)
	if _, err := d.MountSet(t.Context(), id, api.MountOptions{}); err != nil {
		t.Fatal(err)
	}
	w.tap = func(call string, after bool) error {
		if strings.HasPrefix(call, "mounts") && !after {
			return unix.EIO
		}
		return nil
	}
	for _, m := range d.Sets() {
		told := strings.Contains(strings.Join(m.Reasons, "\n"), "where it is mounted is not known: input/output error")
		if told != (m.ID == id) {
			t.Errorf("set %s: %q", m.ID, m.Reasons)
		}
	}
	if m, _, err := d.find(id); err != nil || len(m.Reasons) > 1 {
		t.Errorf("it is remembered: %q, %v", m.Reasons, err)
	}
}

// Who looks at the status page or scrapes does not wait for a disk that a manifest is being written to.
func TestProblemsDoNotWait(t *testing.T) {
	s := manifests{store: catalog.Store{Dir: "/dev/null/sets"}}
	if err := s.Save(api.Manifest{ID: "x"}); err == nil {
		t.Fatal("saved nowhere")
	}
	s.mu.Lock() // as while the disk does not answer
	defer s.mu.Unlock()
	told := make(chan []string, 1)
	go func() { told <- s.problems() }()
	select {
	case got := <-told:
		if len(got) != 1 || !strings.Contains(got[0], "tried again") {
			t.Errorf("got %q", got)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits")
	}
}
