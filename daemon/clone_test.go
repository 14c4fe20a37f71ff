package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fermata-project/fermata/config/ownership"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/clone"
)

// readable is a provider whose snapshots can be read: each is a file, named as its volume.
type readable struct {
	provider.Provider
	dir string
}

func (r readable) Expose(ctx context.Context, s provider.Snapshot) (string, error) {
	_, err := r.Provider.Expose(ctx, s)
	return filepath.Join(r.dir, filepath.Base(s.Origin)), err
}

// mapping knows how much of a volume was written.
type mapping struct {
	provider.Provider
	mapped uint64
}

func (m mapping) Mapped(provider.Volume) (uint64, error) { return m.mapped, nil }

const cloneSize = 9 << 20 // of a volume: two extents of a copy, and a part of one

// copier is a daemon that can clone the volumes a and b of its world, and what they hold.
func (w *world) copier(t *testing.T) (*Daemon, map[string][]byte) {
	t.Helper()
	w.size, w.policy.Volumes = cloneSize, []string{w.path("a"), w.path("b")}
	content := map[string][]byte{}
	for i, name := range []string{"a", "b"} {
		content[name] = bytes.Repeat([]byte{byte(i + 1), 2, 3}, cloneSize/3)
		clear(content[name][1<<20 : 6<<20])
		for _, dir := range []string{"clones", "devices"} {
			if err := os.MkdirAll(filepath.Join(w.dir, dir), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(w.dir, "devices", name), content[name], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := w.daemon()
	for i, p := range d.o.Providers {
		d.o.Providers[i] = readable{p, filepath.Join(w.dir, "devices")}
	}
	d.o.Clones = &clone.Provider{Store: clone.Store{Index: filepath.Join(w.dir, "state", "clones")}}
	d.o.Providers = append(d.o.Providers, d.o.Clones)
	return d, content
}

// request asks for a clone by so many bytes a second.
func (w *world) request(rate uint64, keep, noWait bool) api.Request {
	return api.Request{Policy: "p", Method: api.Clone, Clone: api.CloneOptions{Directory: filepath.Join(w.dir, "clones"), Rate: rate, Keep: keep, NoWait: noWait}}
}

// started is what a daemon that starts and stops within a test is told.
func started(t *testing.T, d *Daemon) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	if err := d.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return func() {
		cancel()
		d.Wait()
	}
}

// cloned checks a clone of a and b, and that nothing but the sets that are named is left; then nothing after its deletion.
func (w *world) cloned(t *testing.T, d *Daemon, m *api.Manifest, content map[string][]byte, left ...string) {
	t.Helper()
	if m == nil || m.State != api.Complete || m.CloneOf == "" || len(m.Volumes) != 2 {
		t.Fatalf("got %+v", m)
	}
	for _, v := range m.Volumes {
		b, err := os.ReadFile(v.Name)
		if err != nil || !bytes.Equal(b, content[filepath.Base(v.Volume)]) || v.Provider != clone.Name || v.Size != cloneSize {
			t.Errorf("%+v differs, %v", v, err)
		}
	}
	w.remain(t, d, append(left, m.ID)...)
	if err := d.DeleteSet(t.Context(), m.ID); err != nil {
		t.Error(err)
	}
	w.remain(t, d, left...)
	w.empty(t)
}

// remain checks which sets are left, beside the old one.
func (w *world) remain(t *testing.T, d *Daemon, want ...string) {
	t.Helper()
	var got []string
	for _, m := range d.Sets() {
		if m.ID != oldSet {
			got = append(got, m.ID)
		}
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("sets %v are left, want %v", got, want)
	}
	w.clean(t, d)
}

// empty checks that nothing lies where clones and links to snapshots are kept.
func (w *world) empty(t *testing.T) {
	t.Helper()
	for _, dir := range []string{"clones", "state/clones", "dev/fermata"} {
		err := filepath.WalkDir(filepath.Join(w.dir, dir), func(path string, e fs.DirEntry, err error) error {
			if err == nil && path != filepath.Join(w.dir, dir) {
				t.Errorf("left behind: %s", path)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestClone(t *testing.T) {
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprintf("keep %v", keep), func(t *testing.T) {
			w := newWorld(t)
			d, content := w.copier(t)
			defer started(t, d)()
			m, err := d.CreateSet(t.Context(), w.request(0, keep, false), nil)
			if err != nil {
				t.Fatal(err)
			}
			if keep {
				w.cloned(t, d, m, content, m.CloneOf)
			} else {
				w.cloned(t, d, m, content)
			}
		})
	}
}

// A copy keeps to its rate, and says how far it is: each byte is copied and read back.
func TestCloneRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d, content := w.copier(t)
		defer started(t, d)()
		begun, last, told := time.Now(), 0, 0
		m, err := d.CreateSet(t.Context(), w.request(1<<20, false, false), func(phase string) {
			var percent int
			if n, _ := fmt.Sscanf(phase, "clone %d%%", &percent); n == 0 {
				return
			}
			if told++; percent < last || percent > 100 {
				t.Errorf("%d%% after %d%%", percent, last)
			}
			last = percent
			for _, m := range d.Sets() {
				if m.State == api.Cloning && (m.Progress.Total != 4*cloneSize || m.Progress.Done > m.Progress.Total || m.Progress.Percent() < percent) {
					t.Errorf("told %d%%, listed as %+v", percent, m.Progress)
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < 36*time.Second || took > 37*time.Second {
			t.Errorf("36 MiB at 1 MiB a second took %v", took)
		}
		if told < 300 || last < 90 {
			t.Errorf("told %d times, at last %d%%", told, last)
		}
		w.cloned(t, d, m, content)
	})
}

// What is cancelled, by whoever waits or by its deletion, leaves nothing, unless the snapshots were to be kept.
func TestCloneCancelled(t *testing.T) {
	for _, keep := range []bool{false, true} {
		for _, deleted := range []bool{false, true} {
			t.Run(fmt.Sprintf("keep %v, deleted %v", keep, deleted), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					d, _ := w.copier(t)
					defer started(t, d)()
					var source string
					if deleted {
						m, err := d.CreateSet(t.Context(), w.request(1<<20, keep, true), nil)
						if err != nil || m.State != api.Cloning {
							t.Fatalf("got %+v, %v", m, err)
						}
						source = m.CloneOf
						time.Sleep(10 * time.Second)
						if err := d.DeleteSet(t.Context(), source); api.Of(err) != api.Refused {
							t.Errorf("what is copied was deleted: %v", err)
						}
						if err := d.DeleteSet(t.Context(), m.ID); err != nil {
							t.Error(err)
						}
					} else {
						ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
						defer cancel()
						m, err := d.CreateSet(ctx, w.request(1<<20, keep, false), nil)
						if m != nil || api.Of(err) != api.Cancelled {
							t.Errorf("got %+v, %v", m, err)
						}
						for _, s := range w.snapshots() {
							source = s.Set.ID
						}
					}
					if keep {
						w.remain(t, d, source)
					} else {
						w.remain(t, d)
						if s := w.snapshots(); len(s) > 0 {
							t.Errorf("left: %+v", s)
						}
					}
					w.empty(t)
				})
			})
		}
	}
}

// A copy that fails leaves the set that was to be copied, which is finished, and says so; nothing of the copy.
func TestCloneFails(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		spoil      func(t *testing.T, w *world, d *Daemon, phase string)
	}{
		{"the snapshot cannot be read", "unexpected EOF", func(t *testing.T, w *world, _ *Daemon, phase string) {
			if err := os.Truncate(filepath.Join(w.dir, "devices", "b"), 5<<20); err != nil {
				t.Error(err)
			}
		}},
		{"the copy cannot begin", "not a directory", func(t *testing.T, w *world, d *Daemon, phase string) {
			d.o.Clones.Index = filepath.Join(w.dir, "devices", "a", "index")
		}},
		{"the disk gives back something else", "the copy differs from the snapshot between byte 4194304 and 8388608", func(t *testing.T, w *world, d *Daemon, phase string) {
			if phase != "clone 61%" { // all is copied, and some of it read back
				return
			}
			found, err := filepath.Glob(filepath.Join(w.dir, "clones/*/1.img"))
			if err != nil || len(found) != 1 {
				t.Fatalf("got %v, %v", found, err)
			}
			f, err := os.OpenFile(found[0], os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.WriteAt([]byte("x"), 5<<20)
			if err := errors.Join(err, f.Close()); err != nil {
				t.Error(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				d, _ := w.copier(t)
				defer started(t, d)()
				m, err := d.CreateSet(t.Context(), w.request(1<<20, false, false), func(phase string) { tt.spoil(t, w, d, phase) })
				snaps := w.snapshots()
				if m != nil || api.Of(err) != api.Failed || len(snaps) != 2 || snaps[0].Armed {
					t.Fatalf("got %+v, %v, %+v", m, err, snaps)
				}
				source := snaps[0].Set.ID
				if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "set "+source+", which is kept") {
					t.Errorf("got %v", err)
				}
				w.remain(t, d, source)
				w.empty(t)
				d.o.Clones.Index = filepath.Join(w.dir, "state", "clones")
				if err := d.refresh(t.Context()); err != nil {
					t.Error(err)
				}
				kept, _, err := d.find(source)
				if err != nil || kept.State != api.Complete || !strings.Contains(strings.Join(kept.Reasons, "\n"), tt.want) {
					t.Errorf("kept %+v, %v", kept, err)
				}
				if err := d.DeleteSet(t.Context(), source); err != nil {
					t.Error(err)
				}
				w.remain(t, d)
			})
		})
	}
}

// A new daemon goes on where the one before was, and deletes what was copied when that is done.
func TestCloneResumed(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"stopped": func(*testing.T, string) {},
		"a power cut took the last sum": func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, "0.sum"), 40); err != nil {
				t.Error(err)
			}
		},
		"a power cut took an image": func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, "0.img"), 17); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				d, content := w.copier(t)
				stop := started(t, d)
				begun, err := d.CreateSet(t.Context(), w.request(1<<20, false, true), nil)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(12 * time.Second) // in the second volume
				stop()
				if d.Busy() || len(w.snapshots()) != 2 {
					t.Fatalf("left %+v", w.snapshots())
				}
				spoil(t, filepath.Join(w.dir, "clones", begun.ID))

				again, _ := w.copier(t)
				defer started(t, again)()
				s := again.Status()
				if !again.Busy() || len(s.Recovered) == 0 || len(s.Busy) != 1 || !s.Busy[0].OutlivesRestart || !strings.HasPrefix(s.Busy[0].What, "set "+begun.CloneOf+" is being copied, ") {
					t.Errorf("nobody goes on: %+v", s)
				}
				for again.Busy() {
					time.Sleep(time.Second)
				}
				m, _, err := again.find(begun.ID)
				if err != nil {
					t.Fatal(err)
				}
				w.cloned(t, again, &m, content)
			})
		})
	}
}

// What a crash at the edges of a copy leaves: sets of exactly the record's source are meant, and no other.
func TestCloneRecovery(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(r *clone.Record)
		left   string // the clone, the source
	}{
		{"complete, its source not yet deleted", func(r *clone.Record) { r.State = clone.Complete }, "clone"},
		{"complete, its source to be kept", func(r *clone.Record) { r.State, r.Keep = clone.Complete, true }, "clone source"},
		{"complete, its source deleted; another's id begins alike", func(r *clone.Record) { r.State, r.Source = clone.Complete, r.Source[:8] }, "clone source"},
		{"half a copy, its source gone; another's id begins alike", func(r *clone.Record) { r.Source = r.Source[:8] }, "source"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			d, _ := w.copier(t)
			stop := started(t, d)
			m, err := d.CreateSet(t.Context(), w.request(0, true, false), nil)
			if err != nil {
				t.Fatal(err)
			}
			stop()
			records, err := d.o.Clones.Load()
			if err != nil || len(records) != 1 {
				t.Fatalf("got %+v, %v", records, err)
			}
			r := records[0]
			r.State, r.Keep = clone.Copying, false
			tt.change(&r)
			if err := d.o.Clones.Save(r); err != nil {
				t.Fatal(err)
			}
			again, _ := w.copier(t)
			defer started(t, again)()
			var left []string
			for _, what := range strings.Fields(tt.left) {
				left = append(left, map[string]string{"clone": m.ID, "source": m.CloneOf}[what])
			}
			w.remain(t, again, left...)
		})
	}
}

// The index of clones is lost together with the whole state directory: the directories that policies name have them, and
// what their records say of them.
func TestCloneWithoutState(t *testing.T) {
	w := newWorld(t)
	d, content := w.copier(t)
	stop := started(t, d)
	m, err := d.CreateSet(t.Context(), w.request(0, false, false), nil)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if err := os.RemoveAll(filepath.Join(w.dir, "state")); err != nil {
		t.Fatal(err)
	}
	again, _ := w.copier(t)
	again.o.Clones.Known = []string{filepath.Join(w.dir, "clones")}
	defer started(t, again)()
	back, _, err := again.find(m.ID)
	if err != nil {
		t.Fatal(err)
	}
	if back.State != api.Complete || back.Consistency != m.Consistency || !back.Created.Equal(m.Created.Truncate(time.Microsecond)) || back.Policy != m.Policy || len(back.Volumes) != 2 {
		t.Errorf("got %+v", back)
	}
	for i, v := range back.Volumes {
		if was := m.Volumes[i]; v.Volume != was.Volume || v.MountPoint != was.MountPoint || v.FSType != was.FSType || v.Name != was.Name || v.Size != was.Size {
			t.Errorf("got %+v, was %+v", v, was)
		}
	}
	back.CloneOf = m.CloneOf
	w.cloned(t, again, &back, content)
}

// A clone whose record cannot be read is listed as damaged, and can be deleted; one that is no clone is told of.
func TestDamagedClone(t *testing.T) {
	w := newWorld(t)
	d, _ := w.copier(t)
	stop := started(t, d)
	m, err := d.CreateSet(t.Context(), w.request(0, false, false), nil)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	for _, dir := range []string{m.ID, "theirs"} {
		if err := os.MkdirAll(filepath.Join(w.dir, "clones", dir), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(w.dir, "clones", dir, "record.json"), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again, _ := w.copier(t)
	again.o.Clones.Known = []string{filepath.Join(w.dir, "clones")}
	stop = started(t, again)
	back, _, err := again.find(m.ID)
	if err != nil {
		t.Fatal(err)
	}
	if back.State != api.Damaged || !strings.Contains(strings.Join(back.Reasons, "\n"), "/record.json: unexpected end of JSON input") {
		t.Errorf("got %+v", back)
	}
	if p := again.Status().Problems; len(p) != 1 || !strings.Contains(p[0], "cannot read the clone in "+filepath.Join(w.dir, "clones", "theirs")) {
		t.Errorf("problems: %q", p)
	}
	w.remain(t, again, m.ID)
	if err := again.DeleteSet(t.Context(), m.ID); err != nil {
		t.Error(err)
	}
	w.remain(t, again)
	stop()
	if err := os.RemoveAll(filepath.Join(w.dir, "clones", "theirs")); err != nil {
		t.Fatal(err)
	}
	w.empty(t)
}

// What cannot be copied is refused before anything is touched.
func TestCloneAdmission(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		class      api.Class
		set        func(w *world, d *Daemon)
	}{
		{"too little room for what may not be zero", "are free, and the copies can take 18874368", api.Refused, func(w *world, _ *Daemon) { w.free = 2*cloneSize - 1 }},
		{"just enough", "", "", func(w *world, _ *Daemon) { w.free = 2 * cloneSize }},
		{"little was ever written", "", "", func(w *world, d *Daemon) {
			w.free = 2 << 20
			d.o.Providers[0] = mapping{d.o.Providers[0], 1 << 20}
		}},
		{"more than that is free was written", "can take 6291456", api.Refused, func(w *world, d *Daemon) {
			w.free = 2 << 20
			d.o.Providers[0] = mapping{d.o.Providers[0], 3 << 20}
		}},
		{"others can write to the directory", "not to be trusted", api.Invalid, func(_ *world, d *Daemon) {
			d.o.Clones.Trust = func(string) error { return ownership.ErrUntrusted }
		}},
		{"the directory is missing", "no such file", api.Invalid, func(w *world, _ *Daemon) { os.Remove(filepath.Join(w.dir, "clones")) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			d, content := w.copier(t)
			defer started(t, d)()
			tt.set(w, d)
			m, err := d.CreateSet(t.Context(), w.request(0, false, false), nil)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				w.cloned(t, d, m, content)
				return
			}
			if err == nil || api.Of(err) != tt.class || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v", err)
			}
			w.nothing(t, d)
			w.remain(t, d)
			w.empty(t)
		})
	}
}
