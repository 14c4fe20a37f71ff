package acts

import (
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
	for i, ok := range []bool{false, false, true, false} {
		a.after(Delete, pools.Critical, time.Duration(i), ok)
		if want := []int{1, 2, 0, 1}[i]; a[Delete].failures != want {
			t.Errorf("after %d: %+v", i, a[Delete])
		}
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
