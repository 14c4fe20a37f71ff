package acts

import (
	"errors"
	"testing"
	"time"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/pools"
	"github.com/fermata-project/fermata/dm"
)

func pool(data, metadata pools.Level) pools.Pool {
	parts := pools.Parts{Data: data, Metadata: metadata}
	return pools.Pool{Name: "vg/pool", Parts: parts, Level: parts.Worst(), Space: dm.Space{Type: "thin-pool", UUID: "LVM-1"}}
}

func area(level pools.Level) pools.Pool {
	return pools.Pool{Name: "vg/s", Parts: pools.Parts{Data: level}, Level: level, Space: dm.Space{Type: "snapshot", UUID: "LVM-2"}}
}

func unseen(p pools.Pool) pools.Pool {
	p.Unseen = true
	return p
}

var (
	never = config.PoolActs{Extend: config.PoolExtend{At: config.Never}, Delete: config.PoolDelete{Dropped: config.Never, Kept: config.Never}}
	all   = config.PoolActs{Extend: config.PoolExtend{At: config.Warning}, Delete: config.PoolDelete{Dropped: config.Critical, Kept: config.Exhausted}}
)

func only(names ...string) config.PoolActs {
	c := all
	c.Only = names
	return c
}

func without(extend config.PoolLevel) config.PoolActs {
	c := all
	c.Extend.At = extend
	return c
}

func TestPlan(t *testing.T) {
	const now = time.Hour
	did := func(k Kind, ago time.Duration, level pools.Level, failures int) attempts {
		return attempts{k: {ended: now - ago, level: level, failures: failures}}
	}
	left := func(ago, since time.Duration, level pools.Level) attempts {
		return attempts{ExtendData: {ended: now - ago, level: level, failures: 1, left: now - since}}
	}
	and := func(a, b attempts) attempts {
		for k, x := range b {
			a[k] = x
		}
		return a
	}
	const ok, warning, critical, exhausted, failed = pools.OK, pools.Warning, pools.Critical, pools.Exhausted, pools.Failed
	for _, c := range []struct {
		name  string
		p     pools.Pool
		c     config.PoolActs
		past  attempts
		want  Kind
		again time.Duration
	}{
		{name: "all is well", p: pool(ok, ok), c: all},
		{name: "nothing is asked for", p: pool(exhausted, exhausted), c: never},
		{name: "data", p: pool(warning, ok), c: all, want: ExtendData},
		{name: "metadata", p: pool(ok, warning), c: all, want: ExtendMetadata},
		{name: "both, data first", p: pool(warning, warning), c: all, want: ExtendData},
		{name: "metadata while data have to wait", p: pool(warning, critical), c: all, past: did(ExtendData, time.Second, warning, 1), want: ExtendMetadata, again: 59 * time.Second},
		{name: "below the level that asks", p: pool(warning, ok), c: without(config.Critical)},
		{name: "above the level that asks", p: pool(exhausted, ok), c: without(config.Critical), want: ExtendData},
		{name: "nobody knows how it is now", p: unseen(pool(critical, ok)), c: all},
		{name: "failed for good", p: pool(failed, failed), c: all},
		{name: "not this pool", p: pool(critical, ok), c: only("vg/other")},
		{name: "this pool", p: pool(critical, ok), c: only("vg/other", "vg/pool"), want: ExtendData},

		{name: "just extended", p: pool(warning, ok), c: all, past: did(ExtendData, time.Second, warning, 0), again: time.Second},
		{name: "just extended, and sets could go", p: pool(critical, ok), c: all, past: did(ExtendData, time.Second, warning, 0), again: time.Second},
		{name: "extended, and still full", p: pool(warning, ok), c: all, past: did(ExtendData, 2*time.Second, warning, 0), want: ExtendData},
		{name: "could not be extended", p: pool(warning, ok), c: all, past: did(ExtendData, 10*time.Second, warning, 1), again: 50 * time.Second},
		{name: "again after a minute", p: pool(warning, ok), c: all, past: did(ExtendData, time.Minute, warning, 1), want: ExtendData},
		{name: "later the third time", p: pool(warning, ok), c: all, past: did(ExtendData, 3*time.Minute, warning, 3), again: time.Minute},
		{name: "never later than that", p: pool(warning, ok), c: all, past: did(ExtendData, 29*time.Minute, warning, 60), again: time.Minute},
		{name: "at once at a worse level", p: pool(critical, ok), c: all, past: did(ExtendData, time.Second, warning, 3), want: ExtendData},

		{name: "sets when it cannot be extended", p: pool(critical, ok), c: all, past: did(ExtendData, time.Second, critical, 1), want: Delete, again: 59 * time.Second},
		{name: "none while dmeventd may extend it", p: pool(critical, ok), c: all, past: left(10*time.Second, 10*time.Second, critical), again: 20 * time.Second},
		{name: "but metadata", p: pool(critical, warning), c: all, past: left(10*time.Second, 10*time.Second, critical), want: ExtendMetadata, again: 50 * time.Second},
		{name: "when it has not", p: pool(critical, ok), c: all, past: left(30*time.Second, 30*time.Second, critical), want: Delete, again: 30 * time.Second},
		{name: "and not once more when it was asked again", p: pool(critical, ok), c: all, past: left(time.Second, 5*time.Minute, critical), want: Delete, again: 59 * time.Second},
		{name: "sooner when writes wait", p: pool(exhausted, ok), c: all, past: left(15*time.Second, 15*time.Second, exhausted), want: Delete, again: 45 * time.Second},
		{name: "but not at once", p: pool(exhausted, ok), c: all, past: left(time.Second, time.Second, exhausted), again: 14 * time.Second},
		{name: "sets when it must not be", p: pool(critical, ok), c: without(config.Never), want: Delete},
		{name: "no sets below their level", p: pool(warning, ok), c: without(config.Never)},
		{name: "one set at a time", p: pool(critical, ok), c: without(config.Never), past: did(Delete, time.Second, critical, 0), again: time.Second},
		{name: "kept ones as the last step", p: pool(exhausted, ok), c: without(config.Never), past: did(Delete, time.Second, exhausted, 1), want: DeleteKept, again: 59 * time.Second},
		{name: "but not before", p: pool(critical, ok), c: without(config.Never), past: did(Delete, time.Second, critical, 1), again: 59 * time.Second},
		{name: "for metadata, too", p: pool(ok, exhausted), c: without(config.Never), past: did(Delete, time.Second, exhausted, 1), want: DeleteKept, again: 59 * time.Second},
		{name: "nothing helps any more", p: pool(exhausted, ok), c: all, again: 29 * time.Second,
			past: and(and(did(ExtendData, 10*time.Second, exhausted, 1), did(Delete, 20*time.Second, exhausted, 1)), did(DeleteKept, 31*time.Second, exhausted, 1))},

		{name: "an area", p: area(warning), c: all, want: ExtendCOW},
		{name: "an area is all right", p: area(ok), c: all},
		{name: "no set is deleted for an area", p: area(exhausted), c: without(config.Never)},
	} {
		t.Run(c.name, func(t *testing.T) {
			next, again := plan([]pools.Pool{c.p}, map[string]attempts{c.p.Identity(): c.past}, c.c, now)
			got := Kind("")
			if next != nil {
				got = next.Kind
			}
			if got != c.want || again != c.again {
				t.Errorf("%q, again in %v; want %q, %v", got, again, c.want, c.again)
			}
		})
	}
}

func TestWorstFirst(t *testing.T) {
	other := pool(pools.Critical, pools.OK)
	other.Name, other.UUID = "vg/worse", "LVM-3"
	next, _ := plan([]pools.Pool{pool(pools.Warning, pools.OK), other, area(pools.Warning)}, nil, all, time.Hour)
	if next == nil || next.Pool.Name != "vg/worse" || next.Level != pools.Critical {
		t.Errorf("%+v", next)
	}
}

func TestAfter(t *testing.T) {
	a := attempts{}
	no := errors.New("no")
	for i, err := range []error{no, no, nil, no} {
		a.after(Delete, pools.Critical, time.Duration(i), err)
		if want := []int{1, 2, 0, 1}[i]; a[Delete].failures != want {
			t.Errorf("after %d: %+v", i, a[Delete])
		}
	}
}

// How long dmeventd gets counts from when an act was first left to it; anew at a worse level, and after it has done it.
func TestLeft(t *testing.T) {
	a := attempts{}
	for i, c := range []struct {
		level pools.Level
		err   error
		want  time.Duration
	}{
		{pools.Warning, ErrLeft, 1}, {pools.Warning, ErrLeft, 1}, {pools.Critical, ErrLeft, 3}, {pools.Critical, ErrLeft, 3},
		{pools.Critical, errors.New("no"), 0}, {pools.Critical, ErrLeft, 6},
	} {
		a.after(ExtendData, c.level, time.Duration(i+1), c.err)
		if got := a[ExtendData].left; got != c.want {
			t.Errorf("%d: since %d, want %d", i+1, got, c.want)
		}
	}
	for _, p := range []pools.Pool{unseen(pool(pools.OK, pools.OK)), pool(pools.Exhausted, pools.OK), pool(pools.Critical, pools.OK)} {
		if a.forget(p, all); len(a) != 1 {
			t.Errorf("forgotten at %s", p.Level)
		}
	}
	a.after(Delete, pools.Critical, 7, errors.New("no"))
	if a.forget(pool(pools.Warning, pools.OK), all); len(a) != 1 || a[Delete].failures != 1 {
		t.Errorf("not forgotten: %+v", a)
	}
}

func TestAsked(t *testing.T) {
	a := Act{Kind: DeleteKept, Pool: pool(pools.Exhausted, pools.OK), Level: pools.Exhausted}
	for _, c := range []struct {
		name string
		now  []pools.Pool
		want bool
	}{
		{"as it was", []pools.Pool{area(pools.OK), pool(pools.Exhausted, pools.OK)}, true},
		{"for another reason", []pools.Pool{pool(pools.OK, pools.Exhausted)}, true},
		{"better", []pools.Pool{pool(pools.Critical, pools.OK)}, false},
		{"well", []pools.Pool{pool(pools.OK, pools.OK)}, false},
		{"failed", []pools.Pool{pool(pools.Failed, pools.OK)}, false},
		{"not seen", []pools.Pool{unseen(pool(pools.Exhausted, pools.OK))}, false},
		{"gone", []pools.Pool{area(pools.Exhausted)}, false},
	} {
		if got := a.asked(c.now, all); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	a = Act{Kind: Delete, Pool: pool(pools.Exhausted, pools.OK), Level: pools.Exhausted}
	if a.asked([]pools.Pool{pool(pools.Critical, pools.OK)}, all) { // it may be able to wait for another try to extend
		t.Error("what a worse level asked for is not what this one does")
	}
}
