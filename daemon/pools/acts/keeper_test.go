package acts

import (
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

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/pools"
)

// watch is a watch whose state a test sets.
type watch struct {
	mu     sync.Mutex
	state  pools.State
	looked chan struct{}
	now    func() pools.State // what a refresh sees; nil: the same
	err    error              // of a refresh
}

func (w *watch) State() pools.State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

func (w *watch) Looked() <-chan struct{} { return w.looked }

func (w *watch) Refresh(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.now != nil {
		w.state = w.now()
	}
	return w.err
}

func (w *watch) set(all ...pools.Pool) {
	w.mu.Lock()
	w.state = pools.State{Pools: all}
	w.mu.Unlock()
	select {
	case w.looked <- struct{}{}:
	default:
	}
}

// keep runs a keeper in a bubble of its own time; told gives what it has reported since.
func keep(t *testing.T, c config.PoolActs, do Doer, test func(w *watch, k *Keeper, told func() string)) {
	synctest.Test(t, func(t *testing.T) {
		w := &watch{looked: make(chan struct{}, 1)}
		var reports []string
		report := func(_ context.Context, r Report) {
			reports = append(reports, fmt.Sprintf("%s %s %s", r.Pool, r.Act, r.Outcome))
		}
		k := New(w, do, c, report, func(context.Context, Report) {}, slog.New(slog.NewTextHandler(io.Discard, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { k.Run(ctx); close(ended) }()
		test(w, k, func() string {
			synctest.Wait()
			defer func() { reports = nil }()
			return strings.Join(reports, ", ")
		})
		cancel()
		<-ended
	})
}

// What helps is done until it has helped, and not once more.
func TestExtendsUntilItHelps(t *testing.T) {
	left := 3
	do := func(context.Context, Act) (string, error) { left--; return "by so much", nil }
	keep(t, all, do, func(w *watch, k *Keeper, told func() string) {
		w.now = func() pools.State {
			if left == 0 {
				return pools.State{Pools: []pools.Pool{pool(pools.OK, pools.OK)}}
			}
			return w.state
		}
		w.set(pool(pools.Warning, pools.OK))
		time.Sleep(time.Hour)
		if got, want := told(), "vg/pool extend-data ok, vg/pool extend-data ok, vg/pool extend-data ok"; got != want {
			t.Errorf("told %q, want %q", got, want)
		}
		if n := len(k.Recent("vg/pool")); n != 3 {
			t.Errorf("%d acts are remembered", n)
		}
	})
}

// What does not help is tried again ever more rarely, and told once if nothing is wrong with it.
func TestDoesNotFlap(t *testing.T) {
	tries := map[Kind]int{}
	do := func(_ context.Context, a Act) (string, error) {
		tries[a.Kind]++
		if a.Kind == ExtendData {
			return "", fmt.Errorf("no room: %w", ErrNothing)
		}
		return "", errors.New("lvremove: no")
	}
	keep(t, all, do, func(w *watch, k *Keeper, told func() string) {
		w.set(pool(pools.Critical, pools.OK))
		time.Sleep(8 * time.Hour)
		synctest.Wait()
		if got := told(); !strings.HasPrefix(got, "vg/pool extend-data nothing, vg/pool delete failed, ") || strings.Count(got, "nothing") != 1 {
			t.Errorf("told %q", got)
		}
		for kind, n := range tries {
			if n < 10 || n > 25 {
				t.Errorf("%s was tried %d times in 8 hours", kind, n)
			}
		}
	})
}

// What an act has freed may show only a while after it: the next one does not go by what was seen before that.
func TestLooksBeforeTheNext(t *testing.T) {
	acted := 0
	do := func(context.Context, Act) (string, error) { acted++; return "", nil }
	keep(t, without(config.Never), do, func(w *watch, k *Keeper, told func() string) {
		looks := 0
		w.now = func() pools.State {
			if looks++; looks > 1 {
				return pools.State{Pools: []pools.Pool{pool(pools.OK, pools.OK)}}
			}
			return w.state
		}
		w.set(pool(pools.Critical, pools.OK))
		time.Sleep(time.Hour)
		synctest.Wait()
		if acted != 1 {
			t.Errorf("%d sets were deleted", acted)
		}
	})
}

// What dmeventd extends in time costs no set, each time that it does.
func TestLeavesTimeToDmeventd(t *testing.T) {
	var acted []Kind
	do := func(_ context.Context, a Act) (string, error) {
		if acted = append(acted, a.Kind); a.Kind == ExtendData {
			return "", ErrLeft
		}
		return "", ErrNothing
	}
	keep(t, all, do, func(w *watch, k *Keeper, told func() string) {
		for range 3 {
			w.set(pool(pools.Critical, pools.OK))
			time.Sleep(20 * time.Second)
			w.set(pool(pools.OK, pools.OK))
			time.Sleep(20 * time.Second)
		}
		if want := []Kind{ExtendData, ExtendData, ExtendData}; !slices.Equal(acted, want) {
			t.Errorf("did %v", acted)
		}
		w.set(pool(pools.Critical, pools.OK))
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if acted = acted[3:]; !slices.Equal(acted, []Kind{ExtendData, Delete}) {
			t.Errorf("did %v", acted)
		}
	})
}

// What was planned is not done if the pool is well when it is its turn, and counts for nothing.
func TestWellWhenItIsItsTurn(t *testing.T) {
	acted := map[Kind]int{}
	var keeper *Keeper
	do := func(ctx context.Context, a Act) (string, error) {
		time.Sleep(time.Minute) // a set is being taken
		if err := keeper.Still(ctx, a); err != nil {
			return "", err
		}
		acted[a.Kind]++
		return "", nil
	}
	keep(t, without(config.Never), do, func(w *watch, k *Keeper, told func() string) {
		keeper = k
		w.set(pool(pools.Exhausted, pools.OK))
		time.Sleep(time.Second)
		w.set(pool(pools.OK, pools.OK))
		time.Sleep(time.Hour)
		if got := told(); got != "" || len(acted) != 0 {
			t.Errorf("told %q, did %v", got, acted)
		}
		w.now = func() pools.State {
			if acted[Delete] > 0 {
				return pools.State{Pools: []pools.Pool{pool(pools.OK, pools.OK)}}
			}
			return w.state
		}
		w.set(pool(pools.Exhausted, pools.OK))
		time.Sleep(61 * time.Second)
		if got, want := told(), "vg/pool delete ok"; got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	})
}

// When nobody watches any more, nothing is done any more: least of all again and again.
func TestWatchThatEnds(t *testing.T) {
	acted := 0
	do := func(context.Context, Act) (string, error) { acted++; return "", nil }
	keep(t, without(config.Never), do, func(w *watch, k *Keeper, told func() string) {
		w.err = pools.ErrEnded
		w.set(pool(pools.Critical, pools.OK))
		time.Sleep(time.Hour)
		synctest.Wait()
		if acted != 1 {
			t.Errorf("%d sets were deleted", acted)
		}
	})
}

func TestForgetsWhatVanished(t *testing.T) {
	keep(t, never, nil, func(w *watch, k *Keeper, told func() string) {
		w.set(pool(pools.Warning, pools.OK))
		k.Changed(pools.Change{Pool: pool(pools.Warning, pools.OK), Was: pools.OK})
		k.Changed(pools.Change{Pool: pool(pools.OK, pools.OK), Was: pools.Warning})
		if got, want := told(), "vg/pool warn warning, vg/pool clear ok"; got != want {
			t.Errorf("told %q, want %q", got, want)
		}
		if len(k.Recent("vg/pool")) != 2 {
			t.Error("what was told is not remembered")
		}
		w.set()
		synctest.Wait()
		if got := k.Recent("vg/pool"); len(got) != 0 {
			t.Errorf("of a pool that is gone: %v", got)
		}
	})
}

// A hook that hangs keeps nothing from being done, and what is told without end is not kept without end.
func TestHookThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		acted := 0
		do := func(context.Context, Act) (string, error) { acted++; return "", nil }
		w := &watch{looked: make(chan struct{}, 1)}
		told := 0
		tell := func(context.Context, Report) { told++ }
		hang := func(ctx context.Context, _ Report) { <-ctx.Done() }
		k := New(w, do, all, tell, hang, slog.New(slog.NewTextHandler(io.Discard, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { k.Run(ctx); close(ended) }()
		w.set(pool(pools.Warning, pools.OK))
		time.Sleep(time.Hour)
		synctest.Wait()
		if acted < 1000 || told != acted || len(k.Recent("vg/pool")) != kept {
			t.Errorf("%d acts, %d told of, %d remembered", acted, told, len(k.Recent("vg/pool")))
		}
		cancel()
		<-ended
	})
}
