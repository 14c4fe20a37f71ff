package daemon

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm/provider"
)

// growing is a provider whose snapshots have copy-on-write areas.
type growing struct {
	provider.Provider
	usage map[string]*provider.Usage // by origin
}

func (g growing) Usage(s provider.Snapshot) (provider.Usage, error) { return *g.usage[s.Origin], nil }

func (g growing) Resize(_ context.Context, s provider.Snapshot, size uint64) error {
	g.usage[s.Origin].Size = size
	return nil
}

func TestResizeSet(t *testing.T) {
	w, d, id := mountable(t)
	usage := map[string]*provider.Usage{"alpha/a": {Size: 100, Used: 10, Metadata: 1}, "alpha/b": {Size: 100}}
	for i, p := range d.o.Providers {
		if p.Name() == "alpha" {
			d.o.Providers[i] = growing{p, usage}
		}
	}
	for _, tt := range []struct {
		name string
		o    api.ResizeOptions
		want string // sizes of a and b afterwards
		done int
		err  string
	}{
		{"all", api.ResizeOptions{Size: 200}, "200 200", 2, ""},
		{"more for all", api.ResizeOptions{Size: 50, Grow: true}, "250 250", 2, ""},
		{"one by name", api.ResizeOptions{Volume: "alpha/a", Size: 300}, "300 250", 1, ""},
		{"one by mount point", api.ResizeOptions{Volume: w.path("b"), Size: 300}, "300 300", 1, ""},
		{"one by device", api.ResizeOptions{Volume: "/dev/mapper/vg-b", Size: 301}, "300 301", 1, ""},
		{"smaller", api.ResizeOptions{Size: 300}, "300 301", 0, "cannot shrink to 300"},
		{"none", api.ResizeOptions{Volume: "beta/img", Size: 400}, "300 301", 0, "has no copy-on-write area of its own"},
		{"nothing", api.ResizeOptions{}, "300 301", 0, "makes no sense"},
	} {
		done, err := d.ResizeSet(t.Context(), id, tt.o)
		if (err == nil) != (tt.err == "") || err != nil && (!strings.Contains(err.Error(), tt.err) || api.Of(err) != api.Invalid) {
			t.Errorf("%s: got %v", tt.name, err)
		}
		if err == nil && len(done) != tt.done {
			t.Errorf("%s: got %+v", tt.name, done)
		}
		for i, want := range strings.Fields(tt.want) {
			if got := usage[[]string{"alpha/a", "alpha/b"}[i]].Size; got != map[string]uint64{"200": 200, "250": 250, "300": 300, "301": 301}[want] {
				t.Errorf("%s: volume %d has %d, want %s", tt.name, i, got, want)
			}
		}
	}
	usage["alpha/a"].Invalid = true
	sets := d.Sets()
	i := slices.IndexFunc(sets, func(m api.Manifest) bool { return m.ID == id })
	if m := sets[i]; m.State != api.Damaged || m.Volumes[0].Invalid == "" || m.Volumes[0].COW.Used != 10 || len(m.Reasons) == 0 {
		t.Errorf("an overflow is told as %+v", m)
	}
	if again := d.Sets()[i]; len(again.Reasons) != len(sets[i].Reasons) {
		t.Errorf("reasons pile up: %q", again.Reasons)
	}
	if _, err := d.ResizeSet(t.Context(), id, api.ResizeOptions{Volume: "alpha/a", Size: 1000}); err == nil || !strings.Contains(err.Error(), "is lost already") {
		t.Errorf("a lost one: %v", err)
	}
}

// stuckResize is a provider that does not return from one of the calls of a resize.
type stuckResize struct {
	growing
	at   string
	free chan struct{}
}

func (s stuckResize) Usage(x provider.Snapshot) (provider.Usage, error) {
	if s.at == "usage" {
		<-s.free
	}
	return s.growing.Usage(x)
}

func (s stuckResize) Resize(ctx context.Context, x provider.Snapshot, size uint64) error {
	if s.at == "resize" {
		<-s.free
	}
	return s.growing.Resize(ctx, x, size)
}

// What a resize asks of the kernel can hang: it ends in time, is named, and is not asked again.
func TestStuckResize(t *testing.T) {
	for at, want := range map[string]string{"usage": "cannot ask provider alpha how full its snapshots are", "resize": "cannot resize "} {
		t.Run(at, func(t *testing.T) {
			_, d, id := mountable(t)
			d.changeLimit = 200 * time.Millisecond
			usage := map[string]*provider.Usage{"alpha/a": {Size: 100}, "alpha/b": {Size: 100}}
			free := make(chan struct{})
			for i, p := range d.o.Providers {
				if p.Name() == "alpha" {
					d.o.Providers[i] = stuckResize{growing{p, usage}, at, free}
				}
			}
			for _, class := range []api.Class{api.Timeout, api.Refused} {
				_, err := d.ResizeSet(t.Context(), id, api.ResizeOptions{Volume: "alpha/a", Size: 200})
				if api.Of(err) != class || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "has not returned for") {
					t.Errorf("want %s: got %v", class, err)
				}
			}
			if p := strings.Join(d.Status().Problems, "\n"); !strings.Contains(p, "has not returned for") {
				t.Errorf("problems: %q", p)
			}
			close(free)
			for end := time.Now().Add(10 * time.Second); len(d.Status().Problems) > 0; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("problems: %q", d.Status().Problems)
				}
			}
			if _, err := d.ResizeSet(t.Context(), id, api.ResizeOptions{Volume: "alpha/a", Size: 300}); err != nil || usage["alpha/a"].Size != 300 {
				t.Errorf("got %v, %d bytes", err, usage["alpha/a"].Size)
			}
		})
	}
}
