package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/fsfreeze"
)

// mountable is a world with a finished set of a, b and img.
func mountable(t *testing.T) (*world, *Daemon, string) {
	t.Helper()
	w := newWorld(t)
	w.policy.Volumes = w.policy.Volumes[:3]
	d := w.daemon()
	m, err := w.take(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return w, d, m.ID
}

// links are what stands in the directory of links, and where it points.
func (w *world) links(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(w.dir, "dev/fermata/*/*"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range found {
		to, err := os.Readlink(f)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, filepath.Base(f)+" "+to)
	}
	return out
}

func TestMounts(t *testing.T) {
	w, d, id := mountable(t)
	for _, writable := range []bool{false, true} {
		mounts, err := d.MountSet(t.Context(), id, api.MountOptions{Writable: writable})
		if err != nil || len(mounts) != 3 {
			t.Fatalf("got %+v, %v", mounts, err)
		}
		for _, m := range mounts {
			if to, err := os.Readlink(m.Link); err != nil || to != m.Device || !strings.HasSuffix(m.Path, m.MountPoint) || m.Writable != writable {
				t.Errorf("got %+v, link to %s, %v", m, to, err)
			}
		}
		if _, err := d.MountSet(t.Context(), id, api.MountOptions{}); api.Of(err) != api.Invalid {
			t.Errorf("mounted twice: %v", err)
		}
		if set, _, _ := d.find(id); len(d.mounted(set)) != 3 {
			t.Errorf("known: %+v", d.mounted(set))
		}
		if err := d.UmountSet(t.Context(), id); err != nil {
			t.Error(err)
		}
		if left, _ := filepath.Glob(filepath.Join(w.dir, "mounts", "*")); len(w.mounted)+len(left)+len(w.links(t)) > 0 || len(w.snapshots()) != 3 {
			t.Errorf("left: mounts %v, records %v, links %v, snapshots %v", w.mounted, left, w.links(t), w.snapshots())
		}
	}
}

// Somebody else's mount at a path of ours is not ours, and what they unmounted is not mounted.
func TestMountsByHand(t *testing.T) {
	w, d, id := mountable(t)
	mounts, err := d.MountSet(t.Context(), id, api.MountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.mounted = slices.DeleteFunc(w.mounted, func(m fsfreeze.Mount) bool { return m.Point == mounts[0].Path })
	w.mounted = append(w.mounted, fsfreeze.Mount{ID: 999, Dev: devRaw, Point: mounts[0].Path, FSType: "ext4"})
	w.mu.Unlock()
	if set, _, _ := d.find(id); len(d.mounted(set)) != 2 {
		t.Errorf("known: %+v", d.mounted(set))
	}
	if err := d.UmountSet(t.Context(), id); err != nil {
		t.Error(err)
	}
	if len(w.mounted) != 1 || w.mounted[0].ID != 999 {
		t.Errorf("left: %+v", w.mounted)
	}
}

// A daemon that dies at any moment of mounting or unmounting leaves what the next one can put away.
func TestDeathWhileMounting(t *testing.T) {
	_, first, id := mountable(t)
	base := first.o.Host.(*fakeHost).world.still()
	for _, writable := range []bool{false, true} {
		for n := 1; ; n++ {
			w := base.live(base.files)
			d := w.daemon()
			if err := d.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			var moment *world
			seen := 0
			w.tap = func(_ string, after bool) error {
				if seen++; seen == n {
					moment = w.after()
				}
				return nil
			}
			_, err := d.MountSet(t.Context(), id, api.MountOptions{Writable: writable, Target: "/at"})
			if err = errors.Join(err, d.UmountSet(t.Context(), id)); err != nil {
				t.Fatal(err)
			}
			if moment == nil {
				break
			}
			next := moment.daemon()
			if err := next.Start(t.Context()); err != nil {
				t.Errorf("death at call %d: %v", n, err)
			}
			if err := next.UmountSet(t.Context(), id); err != nil {
				t.Errorf("death at call %d: %v", n, err)
			}
			left, _ := filepath.Glob(filepath.Join(moment.dir, "mounts", "*"))
			if len(moment.mounted)+len(left)+len(moment.links(t)) > 0 || len(moment.snapshots()) != 3 {
				t.Errorf("death at call %d: left mounts %v, records %v, links %v, snapshots %v", n, moment.mounted, left, moment.links(t), moment.snapshots())
			}
		}
	}
}

// A failure anywhere in mounting leaves nothing.
func TestMountingFails(t *testing.T) {
	w, d, id := mountable(t)
	for n := 1; n < 40; n++ {
		seen := 0
		w.tap = func(call string, after bool) error {
			if seen++; seen == n && !after {
				return errInjected
			}
			return nil
		}
		_, err := d.MountSet(t.Context(), id, api.MountOptions{Writable: true})
		w.tap = nil
		if e := d.UmountSet(t.Context(), id); e != nil {
			t.Errorf("call %d failed with %v, and then: %v", n, err, e)
		}
		if len(w.mounted)+len(w.links(t)) > 0 || len(w.snapshots()) != 3 {
			t.Fatalf("call %d: left mounts %v, links %v, snapshots %v", n, w.mounted, w.links(t), w.snapshots())
		}
	}
}

// The links that somebody has taken are made again by the next start.
func TestLinksComeBack(t *testing.T) {
	w, d, id := mountable(t)
	if _, err := d.MountSet(t.Context(), id, api.MountOptions{Writable: true}); err != nil {
		t.Fatal(err)
	}
	before := w.links(t)
	if err := os.RemoveAll(filepath.Join(w.dir, "dev")); err != nil {
		t.Fatal(err)
	}
	if err := w.daemon().Start(t.Context()); err != nil {
		t.Error(err)
	}
	if got := w.links(t); len(before) != 3 || !slices.Equal(got, before) {
		t.Errorf("got %v, want %v", got, before)
	}
}

func TestLinkName(t *testing.T) {
	long := "/" + strings.Repeat("é", 1000)
	names := map[string]string{}
	for _, tt := range []struct{ mount, origin, want string }{
		{"/srv/db", "vg/db", "srv-db"},
		{"/srv-db", "vg/db", `srv\x2ddb`},
		{"/", "vg/root", "-"},
		{"/a b\n", "vg/a", `a\x20b\x0a`},
		{"/.hidden", "vg/a", `\x2ehidden`},
		{"", "vg/raw-1", `@vg-raw\x2d1`},
		{"/vg/raw-1", "x/y", `vg-raw\x2d1`},
		{"/@x", "x/y", `\x40x`},
		{long, "vg/l", ""},
		{long + "x", "vg/l", ""},
	} {
		got := linkName(provider.Snapshot{MountPoint: tt.mount, Origin: tt.origin})
		if tt.want != "" && got != tt.want || len(got) > 240 || names[got] != "" {
			t.Errorf("%q %s: got %s, as for %q", tt.mount, tt.origin, got, names[got])
		}
		names[got] = tt.mount + tt.origin
		if c := linkName(provider.Snapshot{MountPoint: tt.mount, Origin: tt.origin, Scratch: true}); c != got+"@copy" {
			t.Errorf("copy of %s: got %s", got, c)
		}
	}
}

func TestComparePaths(t *testing.T) {
	paths := []string{"/srv/b", "/srv-x", "/", "/srv"}
	slices.SortFunc(paths, comparePaths)
	if want := []string{"/", "/srv", "/srv/b", "/srv-x"}; !slices.Equal(paths, want) {
		t.Errorf("got %v", paths)
	}
}

// A provider that cannot answer keeps nobody else's sets mounted.
func TestUnmountBesideABrokenProvider(t *testing.T) {
	_, d, id := mountable(t)
	d.o.Providers = append(d.o.Providers, &mute{err: errors.New("no answer")})
	if _, err := d.MountSet(t.Context(), id, api.MountOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := d.UmountSet(t.Context(), id); err != nil {
		t.Error(err)
	}
	if err := d.DeleteSet(t.Context(), id); err != nil {
		t.Error(err)
	}
	if _, _, err := d.find(id); api.Of(err) != api.NotFound {
		t.Errorf("deleted: %v", err)
	}
}

// A raw volume is mounted nowhere: its device is readable at its link, until the set is unmounted.
func TestMountRaw(t *testing.T) {
	w := newWorld(t)
	d := w.daemon()
	m, err := w.take(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		mounts, err := d.MountSet(t.Context(), m.ID, api.MountOptions{})
		i := slices.IndexFunc(mounts, func(x api.Mount) bool { return x.Path == "" })
		if err != nil || len(mounts) != 4 || i < 0 {
			t.Fatalf("got %+v, %v", mounts, err)
		}
		if to, err := os.Readlink(mounts[i].Link); err != nil || to != mounts[i].Device {
			t.Errorf("link to %s, %v", to, err)
		}
		if known := d.mounted(*m); len(known) != 4 {
			t.Errorf("known: %+v", known)
		}
		d = w.daemon() // that comes after this one's death
		if err := d.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if known := d.mounted(*m); len(known) != 4 {
			t.Errorf("known to the next daemon: %+v", known)
		}
		if err := d.UmountSet(t.Context(), m.ID); err != nil {
			t.Error(err)
		}
		if known := d.mounted(*m); len(known)+len(w.links(t)) != 0 {
			t.Errorf("left: %+v, %v", known, w.links(t))
		}
	}
}

// mounted is where a set is mounted.
func (d *Daemon) mounted(m api.Manifest) []api.Mount {
	d.withMounts(&m)
	return m.Mounts
}
