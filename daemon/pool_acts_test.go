package daemon

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/forecast"
	"github.com/fermata-project/fermata/daemon/pools"
	"github.com/fermata-project/fermata/daemon/pools/acts"
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
)

// pooled is a provider whose snapshots live in vg/pool, which can be extended.
type pooled struct {
	provider.Provider
	auto  bool
	asked *[]provider.Extension
	calls *[]string
	fail  error     // of ExtendPool and Shares
	busy  error     // of Hold
	open  *[]string // names of snapshots
}

func (p pooled) InUse(s provider.Snapshot) (bool, error) {
	return p.open != nil && slices.Contains(*p.open, s.Name), nil
}

func (p pooled) Snapshots(ctx context.Context) ([]provider.Snapshot, error) {
	snaps, err := p.Provider.Snapshots(ctx)
	for i := range snaps {
		snaps[i].Pool = "vg/pool"
	}
	return snaps, err
}

func (p pooled) Pools() ([]provider.Pool, error) {
	return []provider.Pool{{Name: "vg/pool", Device: "vg-pool-tpool", Mode: "rw", Size: 100}}, nil
}

func (p pooled) Hold(device string) error { *p.calls = append(*p.calls, "hold "+device); return p.busy }
func (p pooled) Release(device string) error {
	*p.calls = append(*p.calls, "release "+device)
	return nil
}
func (p pooled) Shares(context.Context, string) (map[string]provider.Used, error) {
	*p.calls = append(*p.calls, "shares")
	return map[string]provider.Used{"alpha/a." + oldSet: {Mapped: 30, Own: 3}}, p.fail
}

func (p pooled) Autoextended(context.Context, string) (bool, error) { return p.auto, nil }

func (p pooled) ExtendPool(_ context.Context, _ string, x provider.Extension) (provider.Extended, error) {
	*p.asked = append(*p.asked, x)
	return provider.Extended{Was: 100, Is: 120, Spares: x.Spares}, p.fail
}

// inPool has the sets of alpha live in vg/pool.
func inPool(d *Daemon, p pooled) {
	for i, x := range d.o.Providers {
		if x.Name() == "alpha" {
			p.Provider = x
			d.o.Providers[i] = p
		}
	}
}

var full = acts.Act{Pool: pools.Pool{Name: "vg/pool", Space: dm.Space{Type: "thin-pool"}}}

// do has one kind of act done about vg/pool, or about another one.
func do(t *testing.T, d *Daemon, k acts.Kind, pool string) (string, error) {
	a := full
	a.Kind, a.Pool.Name = k, pool
	return d.act(t.Context(), a)
}

func TestDeleteExpendable(t *testing.T) {
	w := newWorld(t)
	w.policy.Volumes = w.policy.Volumes[:2]
	w.policy.Retention = config.Retention{Last: 3, Minimum: 1, Labels: []string{"keep"}}
	d := w.daemon()
	inPool(d, pooled{})
	var ids []string
	for i := range 6 {
		r := api.Request{Policy: "p"}
		if i == 1 {
			r.Labels = map[string]string{"keep": "yes"}
		}
		m, err := d.CreateSet(t.Context(), r, nil)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, m.ID)
	}
	// 0 and 2 are dropped, 1 is pinned; of 3, 4 and 5, which are kept, 3 is mounted, and 4 the last that was verified as good.
	if _, err := d.MountSet(t.Context(), ids[3], api.MountOptions{}); err != nil {
		t.Fatal(err)
	}
	m, _, err := d.find(ids[4])
	if err != nil {
		t.Fatal(err)
	}
	m.Verified = &api.Verification{OK: true}
	if err := errors.Join(d.store.Save(m), d.refresh(t.Context())); err != nil {
		t.Fatal(err)
	}

	if said, err := do(t, d, acts.Delete, "vg/other"); !errors.Is(err, acts.ErrNothing) {
		t.Errorf("of another pool: %s, %v", said, err)
	}
	deleted := func(k acts.Kind, want string) {
		t.Helper()
		said, err := do(t, d, k, "vg/pool")
		switch {
		case want == "" && !errors.Is(err, acts.ErrNothing):
			t.Errorf("%s: %s, %v; nothing may go", k, said, err)
		case want != "" && (err != nil || !strings.Contains(said, want) || d.exists(want)):
			t.Errorf("%s: %s, %v; want %s to go", k, said, err, want)
		}
	}
	deleted(acts.Delete, ids[0])
	deleted(acts.Delete, ids[2])
	deleted(acts.Delete, "")
	deleted(acts.DeleteKept, ids[5])
	deleted(acts.DeleteKept, "")
	if err := d.UmountSet(t.Context(), ids[3]); err != nil {
		t.Fatal(err)
	}
	deleted(acts.DeleteKept, ids[3])
	deleted(acts.DeleteKept, "")
	if !d.exists(ids[1]) || !d.exists(ids[4]) || !d.exists(oldSet) {
		t.Error("a set is gone that nobody may delete")
	}
}

// What cannot be removed stays the only one that was begun; it is removed before another set is. A provider, or a volume, that has
// nothing to do with the pool keeps nothing from being deleted.
func TestDeleteInTrouble(t *testing.T) {
	w := newWorld(t)
	w.policy.Volumes = w.policy.Volumes[:1]
	w.policy.Retention = config.Retention{Last: 1}
	d := w.daemon()
	inPool(d, pooled{})
	var ids []string
	for range 6 {
		m, err := w.take(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, m.ID)
	}
	no := errors.New("lvremove: no")
	refuse := func(calls ...string) {
		w.tap = func(call string, after bool) error {
			if name, _, _ := strings.Cut(call, "#"); slices.Contains(calls, name) && !after {
				return no
			}
			return nil
		}
	}
	left := func(what string, want int) {
		t.Helper()
		if got := len(d.setsOf("p")); got != want {
			t.Errorf("%s: %d sets are left, want %d", what, got, want)
		}
	}
	refuse("Mark alpha")
	if _, err := do(t, d, acts.Delete, "vg/pool"); !errors.Is(err, no) {
		t.Error(err)
	}
	left("before any was begun", 6)
	refuse("Delete alpha")
	for range 3 {
		for _, k := range []acts.Kind{acts.Delete, acts.DeleteKept} {
			if said, err := do(t, d, k, "vg/pool"); !errors.Is(err, no) {
				t.Errorf("%s: %q, %v", k, said, err)
			}
			left(string(k), 5)
		}
	}
	refuse()
	if said, err := do(t, d, acts.Delete, "vg/pool"); err != nil || said != "what was left of set "+ids[0] {
		t.Errorf("%q, %v", said, err)
	}
	left("what was left is removed", 5)

	refuse("Snapshots alpha") // it is not known what the pool has
	if said, err := do(t, d, acts.Delete, "vg/pool"); !errors.Is(err, no) || errors.Is(err, acts.ErrNothing) {
		t.Errorf("%q, %v", said, err)
	}
	left("nobody knows what there is", 5)
	refuse("Snapshots beta")
	if said, err := do(t, d, acts.Delete, "vg/pool"); err != nil || !strings.Contains(said, ids[1]) {
		t.Errorf("%q, %v", said, err)
	}
	left("another provider is ill", 4)
}

// What somebody has open without us is not deleted, neither for room nor because its policy does not keep it; and what is left of
// a set, and open, keeps no other one from being deleted.
func TestDeleteInUse(t *testing.T) {
	w := newWorld(t)
	w.policy.Volumes = w.policy.Volumes[:1]
	w.policy.Retention = config.Retention{Last: 1}
	d := w.daemon()
	var open []string
	inPool(d, pooled{open: &open})
	var ids []string
	for range 4 {
		m, err := w.take(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, m.ID)
	}
	open = []string{"alpha/a." + ids[0]}
	verdicts, err := d.PrunePolicy(t.Context(), "p", true)
	if err != nil || !verdicts[3].Keep || verdicts[3].Reasons[0] != "it is in use" || verdicts[2].Keep {
		t.Errorf("%+v, %v", verdicts, err)
	}
	if said, err := do(t, d, acts.Delete, "vg/pool"); err != nil || !strings.Contains(said, ids[1]) {
		t.Errorf("%q, %v", said, err)
	}
	open = nil
	w.tap = func(call string, after bool) error {
		if strings.HasPrefix(call, "Delete alpha#") {
			return unix.EBUSY
		}
		return nil
	}
	if said, err := do(t, d, acts.Delete, "vg/pool"); !errors.Is(err, unix.EBUSY) || d.exists(ids[0]) {
		t.Errorf("%q, %v", said, err)
	}
	w.tap, open = nil, []string{"alpha/a." + ids[0]}
	if said, err := do(t, d, acts.Delete, "vg/pool"); err != nil || !strings.Contains(said, ids[2]) {
		t.Errorf("%q, %v", said, err)
	}
	if !d.exists(ids[3]) {
		t.Error("the last set is gone")
	}
}

// A set is left alone of which a provider that cannot be asked has a part: what it seems to lack may be there.
func TestDeleteNotAllKnown(t *testing.T) {
	w := newWorld(t)
	w.policy.Volumes = []string{w.path("a"), w.path("img")}
	w.policy.Retention = config.Retention{Last: 1}
	d := w.daemon()
	for range 3 {
		if _, err := w.take(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	no := errors.New("plug-in is gone")
	w.tap = func(call string, after bool) error {
		if strings.HasPrefix(call, "Snapshots beta#") {
			return no
		}
		return nil
	}
	for _, d := range []*Daemon{d, w.daemon()} { // one that has seen the other part, and one that has not
		inPool(d, pooled{})
		for _, k := range []acts.Kind{acts.Delete, acts.DeleteKept} {
			if said, err := do(t, d, k, "vg/pool"); !errors.Is(err, no) || errors.Is(err, acts.ErrNothing) {
				t.Errorf("%s: %q, %v", k, said, err)
			}
			if got := len(d.setsOf("p")); got != 3 {
				t.Errorf("%s: %d sets are left", k, got)
			}
		}
	}
}

// The minimum of retention holds, whatever happens to the pool; and where no rule says what is kept, nothing is deleted.
func TestDeleteFloor(t *testing.T) {
	for _, c := range []struct {
		keep config.Retention
		left int
	}{{config.Retention{Last: 1, Minimum: 3}, 3}, {config.Retention{Last: 1}, 1}, {config.Retention{Minimum: 1}, 5}} {
		w := newWorld(t)
		w.policy.Volumes = w.policy.Volumes[:1]
		w.policy.Retention = c.keep
		d := w.daemon()
		inPool(d, pooled{})
		for range 5 {
			if _, err := w.take(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
		for range 10 {
			for _, k := range []acts.Kind{acts.Delete, acts.DeleteKept} {
				if _, err := do(t, d, k, "vg/pool"); err != nil && !errors.Is(err, acts.ErrNothing) {
					t.Fatal(err)
				}
			}
		}
		if got := len(d.setsOf("p")); got != c.left {
			t.Errorf("%+v: %d sets are left, want %d", c.keep, got, c.left)
		}
	}
}

func TestExtendByItself(t *testing.T) {
	w := newWorld(t)
	d := w.daemon()
	c := &d.o.Config.Daemon.Pools.Acts.Extend
	*c = config.PoolExtend{At: config.Warning, By: config.Space{Percent: 20}, Limit: 1 << 40, MetadataLimit: 1 << 30, Spares: map[string][]string{"vg": {"/dev/x"}}}
	var asked []provider.Extension
	p := pooled{asked: &asked}
	inPool(d, p)
	said, err := do(t, d, acts.ExtendData, "vg/pool")
	if err != nil || said != "from 100 to 120 bytes, with /dev/x for the volume group" || len(asked) != 1 || asked[0].Metadata || asked[0].Limit != 1<<40 {
		t.Errorf("%q, %v; %+v", said, err, asked)
	}
	if _, err := do(t, d, acts.ExtendMetadata, "other/pool"); err != nil || len(asked) != 2 || !asked[1].Metadata || asked[1].Limit != 1<<30 || asked[1].Spares != nil {
		t.Errorf("metadata: %v; %+v", err, asked)
	}
	for _, fail := range []error{provider.ErrLimit, provider.ErrNoRoom} {
		p.fail = fail
		inPool(d, p)
		if _, err := do(t, d, acts.ExtendData, "vg/pool"); !errors.Is(err, acts.ErrNothing) || !errors.Is(err, fail) {
			t.Errorf("%v is %v", fail, err)
		}
	}
	p.auto, asked = true, nil
	inPool(d, p)
	if _, err := do(t, d, acts.ExtendData, "vg/pool"); !errors.Is(err, acts.ErrLeft) || asked != nil {
		t.Errorf("beside dmeventd: %v; %+v", err, asked)
	}
	if _, err := do(t, d, acts.ExtendCOW, "vg/nobody"); !errors.Is(err, acts.ErrNothing) {
		t.Errorf("somebody else's snapshot: %v", err)
	}
}

// While a set is being taken nothing is done.
func TestActWaitsForItsTurn(t *testing.T) {
	d := newWorld(t).daemon()
	var asked []provider.Extension
	inPool(d, pooled{asked: &asked})
	release, err := d.turn.take(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := do(t, d, acts.ExtendData, "vg/pool")
		ended <- err
	}()
	select {
	case err := <-ended:
		t.Errorf("it did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	release()
	if err := <-ended; err != nil || len(asked) != 1 {
		t.Errorf("%v; %+v", err, asked)
	}
}

// filling is a pool that a test fills, without events.
type filling struct{ used atomic.Uint64 }

func (f *filling) All() ([]dm.Space, []dm.Dev, error) {
	return []dm.Space{{Device: "vg-pool-tpool", UUID: "LVM-1", Type: "thin-pool", Data: dm.Fill{Used: f.used.Load(), Size: 100}, Metadata: dm.Fill{Size: 100}}}, nil, nil
}

func (f *filling) One(dm.Dev) (dm.Space, error) { s, _, err := f.All(); return s[0], err }

func (*filling) Wait(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// What the pool asked for before its turn is not done if it does not ask for it then.
func TestActIsOver(t *testing.T) {
	w := newWorld(t)
	w.policy.Volumes = w.policy.Volumes[:1]
	w.policy.Retention = config.Retention{Last: 3}
	d := w.daemon()
	inPool(d, pooled{})
	for range 3 {
		if _, err := w.take(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	d.o.Config.Daemon.Pools.Acts = config.PoolActs{Extend: config.PoolExtend{At: config.Never}, Delete: config.PoolDelete{Dropped: config.Never, Kept: config.Exhausted}}
	some := pools.Thresholds{Warning: .8, Critical: .9}
	pool := new(filling)
	o := d.o
	o.Watch = pools.New(pool, pool, pools.Limits{Data: some, Metadata: some, COW: some}, func(pools.Change) {}, o.Log)
	d = New(o)
	if err := d.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- o.Watch.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	pool.used.Store(100)
	if err := o.Watch.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	a := acts.Act{Kind: acts.DeleteKept, Pool: o.Watch.State().Pools[0], Level: pools.Exhausted}
	pool.used.Store(50) // somebody extends it, who has the turn
	if said, err := d.act(ctx, a); !errors.Is(err, acts.ErrOver) || len(d.setsOf("p")) != 3 {
		t.Errorf("%q, %v: %d sets are left", said, err, len(d.setsOf("p")))
	}
	pool.used.Store(100)
	if said, err := d.act(ctx, a); err != nil || len(d.setsOf("p")) != 2 {
		t.Errorf("%q, %v: %d sets are left", said, err, len(d.setsOf("p")))
	}
}

func TestRefusal(t *testing.T) {
	const mib = 1 << 20
	p := pools.Pool{Level: pools.Critical, Reason: "data 91.0 % full", Space: dm.Space{Data: dm.Fill{Used: 910 * mib, Size: 1000 * mib}},
		DataLeft: pools.Left{Time: time.Hour, Known: true}, MetadataLeft: pools.Left{Time: forecast.Never, Known: true}}
	steady := p
	steady.DataLeft = pools.Left{}
	for _, c := range []struct {
		name string
		p    pools.Pool
		c    config.PoolRefuse
		need uint64
		want string
	}{
		{"nothing is asked for", p, config.PoolRefuse{At: config.Never}, 1 << 50, ""},
		{"the level", p, config.PoolRefuse{At: config.Critical}, 0, "at level critical: data 91.0 % full"},
		{"a worse level", p, config.PoolRefuse{At: config.Warning}, 0, "at level critical"},
		{"not yet", p, config.PoolRefuse{At: config.Exhausted}, 0, ""},
		{"full soon", p, config.PoolRefuse{At: config.Never, Within: 2 * time.Hour}, 0, "no data left in 1h0m0s"},
		{"full later", p, config.PoolRefuse{At: config.Never, Within: time.Minute}, 0, ""},
		{"nobody knows when", steady, config.PoolRefuse{At: config.Never, Within: 2 * time.Hour}, 0, ""},
		{"it fits", p, config.PoolRefuse{At: config.Never, Growth: 1}, 90 * mib, ""},
		{"it does not fit", p, config.PoolRefuse{At: config.Never, Growth: 1}, 91 * mib, "90 MiB free, and these volumes have written 91 MiB"},
		{"it has to fit twice", p, config.PoolRefuse{At: config.Never, Growth: 2}, 60 * mib, "90 MiB free"},
	} {
		got := refusal(c.p, c.c, c.need)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func TestSinceLast(t *testing.T) {
	d := newWorld(t).daemon()
	v := provider.Volume{Dev: 7, UUID: "LVM-x", Size: 1000}
	p := plan{members: []member{{vol: v}}}
	for _, c := range []struct{ before, now, want uint64 }{{0, 400, 400}, {400, 700, 300}, {700, 9000, 1000}, {9000, 10, 0}} {
		d.rememberWritten(p, written{7: c.before})
		if got := d.sinceLast(v, written{7: c.now}); got != c.want {
			t.Errorf("from %d to %d: %d, want %d", c.before, c.now, got, c.want)
		}
	}
	if got := d.sinceLast(provider.Volume{Dev: 8, UUID: "LVM-y", Size: 1000}, written{8: 500}); got != 0 {
		t.Errorf("before the first set: %d", got)
	}
}

func TestShowPool(t *testing.T) {
	d := newWorld(t).daemon()
	var asked []provider.Extension
	var calls []string
	p := pooled{asked: &asked, calls: &calls}
	inPool(d, p)
	if err := d.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.o.Config.Daemon.Pools.Acts.Extend = config.PoolExtend{At: config.Warning, By: config.Space{Percent: 20}}
	got, err := d.ShowPool(t.Context(), "vg/pool")
	if err != nil || got.Size != 100 || got.Extension != "Fermata, by 20% from level warning on" ||
		len(got.Snapshots) != 1 || got.Snapshots[0].Set != oldSet || got.Snapshots[0].Share != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := d.ShowPool(t.Context(), "vg/other"); api.Of(err) != api.NotFound {
		t.Errorf("one that does not exist: %v", err)
	}
	d.o.Config.Daemon.Pools.Acts.Only = []string{"vg/other"}
	if got, _ := d.ShowPool(t.Context(), "vg/pool"); got.Extension != "nobody" {
		t.Errorf("not this pool: %s", got.Extension)
	}

	got, err = d.MeasurePool(t.Context(), "vg/pool")
	if share := got.Snapshots[0].Share; err != nil || share == nil || share.Own != 3 {
		t.Errorf("measured: %+v, %v", got, err)
	}
	p.fail = errors.New("no such program")
	inPool(d, p)
	if _, err = d.MeasurePool(t.Context(), "vg/pool"); !errors.Is(err, p.fail) {
		t.Errorf("a program that fails: %v", err)
	}
	p.busy = unix.EBUSY
	inPool(d, p)
	if _, err = d.MeasurePool(t.Context(), "vg/pool"); !errors.Is(err, unix.EBUSY) {
		t.Errorf("somebody else has taken the snapshot: %v", err)
	}
	const once = "hold vg-pool-tpool,shares,release vg-pool-tpool,"
	if got := strings.Join(calls, ","); got != once+once+"hold vg-pool-tpool" {
		t.Errorf("calls: %s", got)
	}

	// A daemon that died while it measured has left its note.
	if err := os.WriteFile(d.heldMetadata(), []byte("vg-pool-tpool"), 0o600); err != nil {
		t.Fatal(err)
	}
	calls = nil
	if _, err := d.MeasurePool(t.Context(), "vg/pool"); api.Of(err) != api.Busy || calls != nil {
		t.Errorf("while a pool is being measured: %v, %v", err, calls)
	}
	if err := d.Start(t.Context()); err != nil || strings.Join(calls, ",") != "release vg-pool-tpool" {
		t.Errorf("the next start: %v, %v", err, calls)
	}
}

func TestExtendPool(t *testing.T) {
	d := newWorld(t).daemon()
	var asked []provider.Extension
	p := pooled{asked: &asked, auto: true}
	inPool(d, p)
	got, err := d.ExtendPool(t.Context(), "vg/pool", api.ExtendOptions{Size: 50, Metadata: true})
	if err != nil || got.Name != "vg/pool" || len(asked) != 1 || !asked[0].Metadata || !asked[0].Whole || asked[0].By.Of(1000) != 50 {
		t.Errorf("%+v, %v; %+v", got, err, asked)
	}
	if _, err := d.ExtendPool(t.Context(), "vg/pool", api.ExtendOptions{Percent: 50}); err != nil || asked[1].Metadata || asked[1].By.Of(1000) != 500 || asked[1].Limit != 0 {
		t.Errorf("by a share: %v; %+v", err, asked)
	}
	for _, o := range []api.ExtendOptions{{}, {Size: 1, Percent: 1}, {Percent: -1}} {
		if _, err := d.ExtendPool(t.Context(), "vg/pool", o); api.Of(err) != api.Invalid {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := d.ExtendPool(t.Context(), "vg/other", api.ExtendOptions{Size: 1}); api.Of(err) != api.NotFound {
		t.Errorf("one that does not exist: %v", err)
	}
	p.fail = provider.ErrNoRoom
	inPool(d, p)
	if _, err := d.ExtendPool(t.Context(), "vg/pool", api.ExtendOptions{Size: 1}); api.Of(err) != api.Refused || !errors.Is(err, provider.ErrNoRoom) {
		t.Errorf("no room: %v", err)
	}
}

// withArea is a provider whose snapshots have a copy-on-write area of size bytes that can grow to most.
type withArea struct {
	provider.Provider
	size *uint64
	most uint64
}

func (p withArea) Usage(provider.Snapshot) (provider.Usage, error) {
	return provider.Usage{Size: *p.size, Used: *p.size / 2}, nil
}

func (p withArea) Resize(_ context.Context, _ provider.Snapshot, size uint64) error {
	*p.size = max(*p.size, min(size, p.most))
	return nil
}

// An area is extended to what it can use, and no act is said to be done that did nothing: it would be repeated for ever.
func TestExtendArea(t *testing.T) {
	d := newWorld(t).daemon()
	size := uint64(100)
	for i, x := range d.o.Providers {
		if x.Name() == "alpha" {
			d.o.Providers[i] = withArea{x, &size, 170}
		}
	}
	if err := d.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.o.Config.Daemon.Pools.Acts.Extend.By = config.Space{Percent: 50}
	for i, want := range []string{"from 100 to 150 bytes", "from 150 to 170 bytes", ""} {
		a := acts.Act{Kind: acts.ExtendCOW, Pool: pools.Pool{Name: "alpha/a." + oldSet, Space: dm.Space{Type: "snapshot", Data: dm.Fill{Used: size, Size: size}}}}
		said, err := d.act(t.Context(), a)
		if said != want || (err == nil) != (want != "") || want == "" && !errors.Is(err, acts.ErrNothing) {
			t.Errorf("%d: %q, %v; want %q", i, said, err, want)
		}
	}
}
