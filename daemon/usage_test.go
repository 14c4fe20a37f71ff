package daemon

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm/provider"
)

// slow is a provider that takes its time to tell how full its snapshots are, and may fail then.
type slow struct {
	provider.Provider
	takes atomic.Int64 // time.Duration
	fails atomic.Bool
	asked atomic.Int64
}

func (s *slow) Kind() provider.Kind { return provider.Software }

func (s *slow) Usage(provider.Snapshot) (provider.Usage, error) {
	s.asked.Add(1)
	time.Sleep(time.Duration(s.takes.Load()))
	if s.fails.Load() {
		return provider.Usage{}, errors.New("no answer")
	}
	return provider.Usage{Size: 100, Used: 10}, nil
}

// A provider that hangs costs a listing two seconds, however many snapshots it has, the next ones nothing as long as it
// hangs, and the snapshots of others nothing.
func TestSlowUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := w.daemon()
		for range 5 {
			if _, err := w.take(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
		hangs := &slow{Provider: d.o.Providers[0]}
		d.o.Providers[0], d.o.Providers[1] = hangs, &slow{Provider: d.o.Providers[1]}
		list := func(took time.Duration, unknown string) {
			t.Helper()
			begun := time.Now()
			sets := d.Sets()
			if got := time.Since(begun); got != took {
				t.Errorf("it took %v, want %v", got, took)
			}
			for _, m := range sets {
				for _, v := range m.Volumes {
					switch {
					case v.Provider == "alpha" && unknown != "" && (v.COW != nil || !strings.Contains(v.COWUnknown, unknown)):
						t.Errorf("got %+v %q, want %q", v.COW, v.COWUnknown, unknown)
					case (v.Provider != "alpha" || unknown == "") && (v.COW == nil || v.COW.Used != 10 || v.COWUnknown != ""):
						t.Errorf("got %+v %q of %s", v.COW, v.COWUnknown, v.Name)
					}
				}
			}
		}
		list(0, "")
		hangs.takes.Store(int64(10 * time.Second))
		hangs.asked.Store(0)
		list(2*time.Second, "not done within 2s")
		list(0, "has not returned for 2 s")
		time.Sleep(5 * time.Second)
		list(0, "has not returned for 7 s (the plug-in, or what it talks to, may have stopped answering)")
		if n := hangs.asked.Load(); n != 1 {
			t.Errorf("it was asked %d times", n)
		}
		if p := d.Status().Problems; len(p) != 1 || !strings.Contains(p[0], "provider alpha, asked how full") {
			t.Errorf("problems: %q", p)
		}
		time.Sleep(4 * time.Second) // it has answered now
		if n := hangs.asked.Load(); n != 1 {
			t.Errorf("it was asked %d times, after its time", n)
		}
		list(2*time.Second, "not done within 2s")
		time.Sleep(10 * time.Second)
		hangs.takes.Store(0)
		list(0, "")
		hangs.fails.Store(true)
		list(0, "no answer")
	})
}

// What hangs keeps nobody from taking a set.
func TestSlowUsageElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := w.daemon()
		hangs := &slow{Provider: d.o.Providers[0]}
		hangs.takes.Store(int64(time.Minute))
		d.o.Providers[0] = hangs
		if err := d.refresh(context.Background()); err != nil {
			t.Fatal(err)
		}
		go d.Sets()
		synctest.Wait()
		m, err := w.take(t.Context(), d)
		if err != nil || m.State != api.Complete {
			t.Fatalf("got %+v, %v", m, err)
		}
		time.Sleep(2 * time.Minute)
	})
}
