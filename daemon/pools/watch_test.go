package pools

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/daemon/forecast"
	"github.com/fermata-project/fermata/dm"
)

// host is a source and its events.
type host struct {
	mu     sync.Mutex
	spaces []dm.Space
	err    error
	unseen []dm.Dev // All cannot look at them
	event  chan struct{}
	asked  int // how often a device was looked at
}

func (h *host) All() ([]dm.Space, []dm.Dev, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked += len(h.spaces)
	return slices.Clone(h.spaces), h.unseen, h.err
}

func (h *host) One(dev dm.Dev) (dm.Space, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked++
	if h.err != nil {
		return dm.Space{}, h.err
	}
	for _, s := range h.spaces {
		if s.Dev == dev {
			return s, nil
		}
	}
	return dm.Space{}, &dm.Error{Op: "take status of", Errno: unix.ENXIO}
}

func (h *host) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-h.event:
		return nil
	}
}

// set changes what there is; the kernel tells of it if told.
func (h *host) set(told bool, spaces ...dm.Space) {
	h.mu.Lock()
	h.spaces = spaces
	h.mu.Unlock()
	if told {
		h.event <- struct{}{}
	}
}

func pool(name string, used, metadata uint64) dm.Space {
	return dm.Space{Device: name, UUID: "LVM-" + name, Dev: dm.Dev(len(name)), Type: "thin-pool", Mode: "rw",
		Data: dm.Fill{Used: used << 20, Size: 1000 << 20}, Metadata: dm.Fill{Used: metadata << 10, Size: 1000 << 10}}
}

var limits = Limits{Data: Thresholds{0.8, 0.9}, Metadata: Thresholds{0.75, 0.9}, COW: Thresholds{0.7, 0.9}}

// watched runs a watch over a host in a bubble of its own time.
func watched(t *testing.T, test func(h *host, w *Watch, changes func() string)) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{event: make(chan struct{})}
		var told []string
		began := time.Now()
		report := func(c Change) { told = append(told, fmt.Sprintf("%s %v to %v", c.Name, c.Was, c.Level)) }
		w := New(h, h, limits, report, slog.New(slog.NewTextHandler(io.Discard, nil)))
		w.now = func() time.Duration { return time.Since(began) + time.Hour }
		during(t, w.Run, &told, func(changes func() string) { test(h, w, changes) })
	})
}

// during runs a watch while test looks at it: changes gives what it has told since it was asked last.
func during(t *testing.T, run func(context.Context) error, told *[]string, test func(changes func() string)) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- run(ctx) }()
	synctest.Wait()
	test(func() string {
		synctest.Wait()
		defer func() { *told = nil }()
		return strings.Join(*told, ", ")
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestFollows(t *testing.T) {
	watched(t, func(h *host, w *Watch, changes func() string) {
		if s := w.State(); len(s.Pools) != 0 || s.Seen.IsZero() {
			t.Errorf("of an empty host: %+v", s)
		}
		h.set(true, pool("vg-pool-tpool", 100, 10))
		time.Sleep(time.Second)
		if s := w.State(); len(s.Pools) != 1 || s.Pools[0].Name != "vg/pool" || s.Pools[0].Level != OK {
			t.Fatalf("a pool that appeared: %+v", s)
		}
		// The kernel says nothing while it fills up.
		h.set(false, pool("vg-pool-tpool", 850, 10))
		time.Sleep(10 * time.Second)
		if got := changes(); got != "vg/pool ok to warning" {
			t.Errorf("filling up: %q", got)
		}
		renamed := pool("vg-pool-tpool", 950, 10)
		renamed.Device = "new-pool-tpool"
		h.set(true, renamed)
		time.Sleep(time.Second)
		if got := changes(); got != "new/pool warning to critical" || len(w.State().Pools) != 1 {
			t.Errorf("renamed: %q, %+v", got, w.State())
		}
		h.set(true, dm.Space{Device: "new-pool-tpool", UUID: renamed.UUID, Dev: renamed.Dev, Type: "thin-pool", Mode: "rw",
			Data: dm.Fill{Used: 950 << 20, Size: 2000 << 20}, Metadata: renamed.Metadata})
		time.Sleep(time.Second)
		if got := changes(); got != "new/pool critical to ok" {
			t.Errorf("extended: %q", got)
		}
		h.set(true)
		time.Sleep(time.Second)
		if s := w.State(); len(s.Pools) != 0 {
			t.Errorf("of a pool that is gone: %+v", s)
		}
		// One that vanishes without an event.
		h.set(true, pool("a-b-tpool", 100, 10))
		time.Sleep(time.Second)
		h.set(false)
		time.Sleep(3 * time.Minute)
		if s := w.State(); len(s.Pools) != 0 || s.Err != nil {
			t.Errorf("of a pool that vanished: %+v", s)
		}
	})
}

// A threshold is seen within a second of being reached, at any pace, and what does nothing is looked at every two minutes.
func TestPace(t *testing.T) {
	for _, pace := range []uint64{1, 10, 100} {
		watched(t, func(h *host, w *Watch, changes func() string) {
			h.set(true, pool("vg-pool-tpool", 400, 10))
			time.Sleep(10 * time.Minute)
			changes()
			h.mu.Lock()
			idle := h.asked
			h.mu.Unlock()
			if idle > 500 {
				t.Errorf("looked %d times in ten minutes", idle)
			}
			warned := false
			for used := uint64(400); used < 1000; used += pace {
				h.set(false, pool("vg-pool-tpool", used, 10))
				time.Sleep(time.Second)
				warned = warned || changes() != ""
				if level := w.State().Pools[0].Level; used >= 800+pace && level < Warning || used >= 900+pace && level < Critical {
					t.Fatalf("at %d MiB/s: %d of 1000 MiB used, and %v", pace, used, level)
				}
			}
			if !warned {
				t.Error("no change was reported")
			}
		})
	}
	watched(t, func(h *host, w *Watch, _ func() string) {
		var many []dm.Space
		for i := range 1000 {
			s := dm.Space{Device: fmt.Sprintf("vg-s%d", i), UUID: fmt.Sprint("LVM-", i), Dev: dm.Dev(i), Type: "snapshot", Mode: "rw", Data: dm.Fill{Used: 1 << 20, Size: 50 << 30}}
			many = append(many, s)
		}
		h.set(true, many...)
		time.Sleep(time.Minute)
		h.mu.Lock()
		before := h.asked
		h.mu.Unlock()
		time.Sleep(10 * time.Minute)
		h.mu.Lock()
		defer h.mu.Unlock()
		if n := h.asked - before; n > 6*1000 {
			t.Errorf("a thousand idle snapshots were looked at %d times in ten minutes", n)
		}
		if len(w.State().Pools) != 1000 {
			t.Errorf("%d are known", len(w.State().Pools))
		}
	})
}

// How soon a level is reported after it was reached: by a pool that grows at 100 MiB/s, the last block of which raises no event, and by
// one that was idle just below a threshold until then.
func TestHaste(t *testing.T) {
	for _, from := range []uint64{0, 795, 895, 995} {
		watched(t, func(h *host, w *Watch, changes func() string) {
			h.set(true, pool("vg-pool-tpool", from, 10))
			time.Sleep(10 * time.Minute)
			changes()
			reached, seen := map[Level]time.Time{}, map[Level]time.Time{}
			for used := from; used <= 1100; used++ { // the last ones find no room
				h.set(false, pool("vg-pool-tpool", min(used, 1000), 10))
				for _, l := range []Level{Warning, Critical, Exhausted} {
					if at := map[Level]uint64{Warning: 800, Critical: 900, Exhausted: 1000}[l]; from < at && used == at {
						reached[l] = time.Now()
					}
					if _, ok := seen[l]; !ok && w.State().Pools[0].Level >= l {
						seen[l] = time.Now()
					}
				}
				time.Sleep(10 * time.Millisecond)
			}
			for l, at := range reached {
				limit := time.Second
				if from+200 <= 1000 && l == Exhausted {
					limit = 200 * time.Millisecond
				}
				if late := seen[l].Sub(at); seen[l].IsZero() || late > limit {
					t.Errorf("from %d MiB: %v was seen after %v", from, l, late)
				}
			}
		})
	}
}

// A writer that stalls for a moment, as all do when the pool commits, does not make the watch look away.
func TestStalls(t *testing.T) {
	watched(t, func(h *host, w *Watch, changes func() string) {
		h.set(true, pool("vg-pool-tpool", 500, 10))
		time.Sleep(10 * time.Minute)
		for used := uint64(500); used < 1000; used++ {
			h.set(false, pool("vg-pool-tpool", used, 10))
			time.Sleep(10 * time.Millisecond)
			if used == 990 {
				time.Sleep(1200 * time.Millisecond)
			}
		}
		h.set(false, pool("vg-pool-tpool", 1000, 10))
		time.Sleep(200 * time.Millisecond)
		if l := w.State().Pools[0].Level; l != Exhausted {
			t.Errorf("after 200 ms: %v", l)
		}
	})
}

func TestForecast(t *testing.T) {
	watched(t, func(h *host, w *Watch, _ func() string) {
		for minute := range 30 {
			h.set(minute == 0, pool("vg-pool-tpool", 100+uint64(minute)*10, 10))
			time.Sleep(time.Minute)
		}
		p := w.State().Pools[0]
		if !p.DataLeft.Known || p.DataLeft.Time < 55*time.Minute || p.DataLeft.Time > 70*time.Minute {
			t.Errorf("610 MiB are left at 10 MiB a minute: full in %+v", p.DataLeft)
		}
		if p.MetadataLeft.Time != forecast.Never {
			t.Errorf("metadata that do not grow are full in %+v", p.MetadataLeft)
		}
	})
}

// A large pool that grows for ten minutes of each hour is rarely looked at between them, and forecast all the same: an alert waits half an
// hour, and begins anew if there is none.
func TestForecastOfIdle(t *testing.T) {
	watched(t, func(h *host, w *Watch, _ func() string) {
		s := pool("vg-pool-tpool", 0, 10)
		s.Data.Size, s.Metadata.Size = 2<<40, 2<<30
		for minute := range 24 * 60 {
			if minute%60 < 10 {
				s.Data.Used += 1 << 30
			}
			h.set(minute == 0, s)
			time.Sleep(time.Minute)
			if p := w.State().Pools[0]; minute >= 10 && !p.DataLeft.Known {
				t.Errorf("in minute %d nothing is known of when it is full", minute)
				return
			}
		}
		if left := w.State().Pools[0].DataLeft.Time; left < 3*24*time.Hour || left > 14*24*time.Hour {
			t.Errorf("1.8 TiB are left at 10 GiB an hour: full in %v", left)
		}
	})
}

// What could not be looked at is not taken for seen, whoever asked for the look, nor for gone: not its level, and not its forecast.
func TestTroubles(t *testing.T) {
	watched(t, func(h *host, w *Watch, changes func() string) {
		set := func(spaces []dm.Space, unseen []dm.Dev, err error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.spaces, h.unseen, h.err = spaces, unseen, err
		}
		refresh := func() State {
			if err := w.Refresh(context.Background()); err != nil {
				t.Fatal(err)
			}
			return w.State()
		}
		critical, other := pool("vg-pool-tpool", 920, 10), pool("vg-pool2-tpool", 100, 10)
		h.set(true, critical, other)
		time.Sleep(20 * time.Minute)
		if got := changes(); got != "vg/pool ok to critical" || !w.State().Pools[0].DataLeft.Known {
			t.Fatalf("%q, %+v", got, w.State())
		}
		for _, unseen := range [][]dm.Dev{{critical.Dev}, {critical.Dev, other.Dev}} {
			var seen []dm.Space
			if len(unseen) == 1 {
				seen = []dm.Space{other}
			}
			set(seen, unseen, errors.New("no memory"))
			s := refresh()
			if s.Err == nil || len(s.Pools) != 2 || !s.Pools[0].Unseen || s.Pools[0].Level != Critical || s.Pools[1].Unseen != (len(unseen) == 2) {
				t.Errorf("with %d unseen: %+v", len(unseen), s)
			}
			set([]dm.Space{critical, other}, nil, nil)
			time.Sleep(troubled + time.Second)
			if s := w.State(); s.Pools[0].Unseen || !s.Pools[0].DataLeft.Known || s.Err == nil {
				t.Errorf("looked at by itself, before all are: %+v", s)
			}
			time.Sleep(missedAgain)
			if s := w.State(); s.Err != nil {
				t.Errorf("looked at again: %+v", s)
			}
		}
		if got := changes(); got != "" {
			t.Errorf("a level has changed: %s", got)
		}
	})
}

func TestJudge(t *testing.T) {
	full := func(used, metadata uint64) dm.Space { return pool("p", used, metadata) }
	mode := func(s dm.Space, mode string) dm.Space { s.Mode = mode; return s }
	check := full(1, 1)
	check.NeedsCheck = true
	cow := dm.Space{Type: "snapshot", Mode: "rw", Data: dm.Fill{Used: 75, Size: 100}}
	for _, c := range []struct {
		name string
		was  Level
		s    dm.Space
		want Level
		says string
	}{
		{"empty", OK, full(0, 0), OK, ""},
		{"data", OK, full(800, 0), Warning, "data 80.0 %"},
		{"metadata", OK, full(0, 750), Warning, "metadata 75.0 %"},
		{"both", OK, full(800, 900), Critical, "data 80.0 % full, metadata 90.0 %"},
		{"just below, never above", OK, full(799, 0), OK, ""},
		{"just below, after", Warning, full(781, 0), Warning, "78.1 %"},
		{"well below", Warning, full(779, 0), OK, ""},
		{"critical falls to warning", Critical, full(879, 0), Warning, "87.9 %"},
		{"full", OK, full(1000, 0), Exhausted, "100.0 %"},
		{"out of space", OK, mode(full(999, 0), "out_of_data_space"), Exhausted, "writes wait"},
		{"read-only", OK, mode(full(1, 1), "ro"), Failed, "read-only"},
		{"failed", OK, mode(dm.Space{Type: "thin-pool"}, "fail"), Failed, "has failed"},
		{"needs check", OK, check, Failed, "checked"},
		{"area", OK, cow, Warning, "75.0 %"},
		{"lost", Critical, mode(dm.Space{Type: "snapshot"}, "invalid"), Failed, "lost"},
		{"back", Failed, full(1, 1), OK, ""},
		{"unknown size", OK, mode(dm.Space{Type: "snapshot"}, "unknown"), OK, ""},
	} {
		parts, reason := judge(Parts{c.was, c.was}, c.s, limits)
		got := parts.Worst()
		if got != c.want || !strings.Contains(reason, c.says) || cmp.Compare(reason, "") == 0 != (c.want == OK) {
			t.Errorf("%s: %v, %q", c.name, got, reason)
		}
	}
}

// Whoever has changed something does not wait for the watch to look by itself, and is not kept waiting by one that has ended.
func TestRefresh(t *testing.T) {
	watched(t, func(h *host, w *Watch, changes func() string) {
		h.set(false, pool("vg-pool-tpool", 850, 10))
		if err := w.Refresh(context.Background()); err != nil || len(w.State().Pools) != 1 {
			t.Errorf("%v, %+v", err, w.State())
		}
		if p := w.State().Pools[0].Parts; p != (Parts{Warning, OK}) {
			t.Errorf("its parts are at %v", p)
		}
		select {
		case <-w.Looked():
		default:
			t.Error("nobody is told")
		}
	})
	h := &host{event: make(chan struct{})}
	w := New(h, h, limits, func(Change) {}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if err := w.Refresh(t.Context()); err == nil {
		t.Error("a watch that has ended looks")
	}
}

// BenchmarkLook is one look at 350 pools of which nothing grows: what an idle daemon does every two minutes, without the kernel's part.
func BenchmarkLook(b *testing.B) {
	h := &host{}
	for i := range 350 {
		h.spaces = append(h.spaces, dm.Space{Device: fmt.Sprintf("vg-s%d", i), UUID: fmt.Sprint("LVM-", i), Dev: dm.Dev(i), Type: "snapshot", Mode: "rw", Data: dm.Fill{Used: 1 << 20, Size: 50 << 30}})
	}
	w := New(h, h, limits, func(Change) {}, slog.New(slog.DiscardHandler))
	var now time.Duration
	w.now = func() time.Duration { return now }
	w.all()
	b.ReportAllocs()
	for b.Loop() {
		now += idle
		w.publish(w.due())
	}
}

// A pool is called as its users call it, a snapshot as its set's manifest does.
func TestName(t *testing.T) {
	for _, c := range []struct{ device, uuid, want string }{
		{"vg-pool-tpool", "LVM-abcd-tpool", "vg/pool"},
		{"my--vg-a.1", "LVM-abcd", "my-vg/a.1"},
		{"plain", "", "plain"},
		{"fermata@vg-data.1", "FERMATA-snap-253:0-1", "vg-data.1"},
		{"fermata@data.1", "FERMATA-snap-253:0-1", "data.1"},
		{"fermata@x", "OTHER", "fermata@x"},
	} {
		if got := name(dm.Space{Device: c.device, UUID: c.uuid}); got != c.want {
			t.Errorf("%s: %s, want %s", c.device, got, c.want)
		}
	}
}
