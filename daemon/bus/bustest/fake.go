package bustest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
)

// Fake is a service in memory. Its behaviour on CreateSet is chosen by the policy that is asked for:
//
//	slow       runs until it is cancelled, then takes Undo to undo
//	degraded   gives a set of consistency filesystem, with a reason
//	waiting    runs until it is cancelled, and passes on the bare error of its context
//	chatty     waits for Gate to be closed, then tells of 10,000 phases
//	broken, timeout, busy, refused, invalid, denied   fail with that class
//
// Everything else succeeds at once, with three phases.
type Fake struct {
	Undo time.Duration
	Gate chan struct{}

	mu        sync.Mutex
	sets      []api.Manifest
	requests  []api.Request
	holds     []api.QuiesceRequest
	uses      []api.UseRequest
	released  []bool
	cancelled int
	number    int
}

// Epoch is when the fake's first set was taken; each later one is a second younger.
var Epoch = time.Date(2026, 11, 20, 11, 46, 53, 0, time.UTC)

// Requests that CreateSet was given.
func (f *Fake) Requests() []api.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]api.Request(nil), f.requests...)
}

// Cancelled is how many slow sets were cancelled and undone.
func (f *Fake) Cancelled() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cancelled
}

// Add makes a set without asking anybody.
func (f *Fake) Add(policy string) api.Manifest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.add(api.Request{Policy: policy})
}

// Damage makes a set damaged.
func (f *Fake) Damage(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.sets {
		if f.sets[i].ID == id {
			f.sets[i].State = api.Damaged
		}
	}
}

func (f *Fake) add(r api.Request) api.Manifest {
	at := Epoch.Add(time.Duration(f.number) * time.Second)
	f.number++
	m := api.Manifest{
		Version: 1, ID: fmt.Sprintf("%s_%04x", at.Format("20060102T150405"), f.number),
		Policy: r.Policy, State: api.Complete, Created: at, Host: "fake", Consistency: api.Application,
		Window: 412 * time.Microsecond, Duration: 153 * time.Millisecond, Labels: r.Labels,
		Phases: []api.Phase{
			{Name: "resolve", Start: 0, Duration: 12 * time.Millisecond},
			{Name: "freeze filesystems", Start: 140 * time.Millisecond, Duration: 200 * time.Microsecond, Window: true},
			{Name: "commit", Start: 140200 * time.Microsecond, Duration: 212 * time.Microsecond, Window: true},
		},
		Writers: []api.Writer{{Name: "postgresql", Type: "exec", Level: "back-end", Required: true, State: "held",
			Components: []api.Component{{Name: "cluster", Paths: []string{"/srv/db"}}}}},
	}
	volumes := r.Volumes
	if r.Policy != "" {
		volumes = []string{"/srv/db", "/srv/wal"}
	}
	for _, v := range volumes {
		name := strings.ReplaceAll(strings.Trim(v, "/"), "/", "-")
		m.Volumes = append(m.Volumes, api.Snapshot{Volume: "vg/" + name, Device: "vg-" + name, MountPoint: v, FSType: "ext4",
			Frozen: true, Size: 10 << 30, Provider: "thin", Name: "vg/" + name + "-" + m.ID})
	}
	if r.Policy == "degraded" {
		m.Consistency = api.Filesystem
		m.Reasons = []string{"writer postgresql let go early"}
	}
	if r.DryRun {
		m.ID, m.State = "", api.Planned
		return m
	}
	f.sets = append(f.sets, m)
	return m
}

// CreateSet implements api.Service.
func (f *Fake) CreateSet(ctx context.Context, r api.Request, progress func(string)) (*api.Manifest, error) {
	f.mu.Lock()
	f.requests = append(f.requests, r)
	f.mu.Unlock()
	switch r.Policy {
	case "slow":
		progress("prepare")
		<-ctx.Done()
		time.Sleep(f.Undo)
		f.mu.Lock()
		f.cancelled++
		f.mu.Unlock()
		return nil, api.Errorf(api.Cancelled, "the set was cancelled in phase prepare and undone")
	case "waiting":
		<-ctx.Done()
		return nil, fmt.Errorf("cannot wait for lvcreate: %w", context.Cause(ctx))
	case "chatty":
		<-f.Gate
		for i := range 10_000 {
			progress(fmt.Sprint("phase ", i))
		}
	case "broken":
		return nil, api.Errorf(api.Broken, "writer postgresql lost its hold")
	case "timeout":
		return nil, api.Errorf(api.Timeout, "writer postgresql did not hold within 10s")
	case "busy":
		return nil, api.Errorf(api.Busy, "set 20261120T114653_0001 is being taken")
	case "refused":
		return nil, api.Errorf(api.Refused, "pool vg/pool has no room")
	case "invalid":
		return nil, api.Errorf(api.Invalid, "there is no policy \"invalid\"")
	case "denied":
		return nil, api.Errorf(api.Denied, "not today")
	}
	for _, phase := range []string{"resolve", "prepare", "commit"} {
		progress(phase)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.add(r)
	return &m, nil
}

// UseSet takes a set, mounts it, and keeps it until it is released. Of policy "delegated" that is allowed where the policy has it
// only.
func (f *Fake) UseSet(ctx context.Context, r api.UseRequest, u api.Use, progress func(string)) (*api.Manifest, error) {
	id := r.Set
	switch {
	case u.Process <= 0:
		return nil, errors.New("it is not known whose use it is")
	case r.Policy == "delegated" && r.Mount.Target != "":
		return nil, api.Errorf(api.Denied, "not elsewhere")
	}
	if id == "" {
		m, err := f.CreateSet(ctx, r.Request, progress)
		if err != nil {
			return nil, err
		}
		id = m.ID
	}
	o := r.Mount
	if o.Target == "" {
		o.Target = "/run/fermata/exec/" + cmp.Or(f.policyOf(id), "manual")
	}
	if _, err := f.MountSet(ctx, id, o); err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.uses = append(f.uses, r)
	f.mu.Unlock()
	u.Mounted(id)
	var done bool
	var err error
	select {
	case done = <-u.Release:
	case <-ctx.Done():
		err = api.Errorf(api.Cancelled, "set %s was not released", id)
	}
	f.mu.Lock()
	f.released = append(f.released, done)
	f.mu.Unlock()
	var m api.Manifest
	for _, x := range f.Sets() {
		if x.ID == id {
			m = x
		}
	}
	err = errors.Join(err, f.UmountSet(ctx, id))
	if r.Set == "" && !r.Keep {
		err = errors.Join(err, f.DeleteSet(ctx, id))
	}
	return &m, err
}

func (f *Fake) policyOf(id string) string {
	for _, m := range f.Sets() {
		if m.ID == id {
			return m.Policy
		}
	}
	return ""
}

// Uses are the requests that UseSet was given.
func (f *Fake) Uses() []api.UseRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]api.UseRequest(nil), f.uses...)
}

// Quiesce implements api.Service. By policy: "slow" never holds, "broken" fails while it holds, "degraded" and the
// others hold until they are released.
func (f *Fake) Quiesce(ctx context.Context, r api.QuiesceRequest, h api.Hold, progress func(string)) (*api.Manifest, error) {
	progress("prepare")
	f.mu.Lock()
	f.holds = append(f.holds, r)
	f.mu.Unlock()
	if r.Policy == "slow" {
		<-ctx.Done()
		return nil, api.Errorf(api.Cancelled, "the hold was cancelled in phase prepare and undone")
	}
	if r.Policy == "refused" {
		return nil, api.Errorf(api.Refused, "/srv/db is frozen by somebody else")
	}
	progress("hold")
	h.Held()
	late := time.NewTimer(r.For)
	defer late.Stop()
	broken := make(chan time.Time)
	if r.Policy == "broken" {
		close(broken)
	}
	select {
	case done := <-h.Release:
		f.mu.Lock()
		f.released = append(f.released, done)
		f.mu.Unlock()
	case <-broken:
		return nil, api.Errorf(api.Broken, "a writer let go before the hold was released")
	case <-late.C:
		return nil, api.Errorf(api.Timeout, "the hold was not released within %v", r.For)
	case <-ctx.Done():
		f.mu.Lock()
		f.cancelled++
		f.mu.Unlock()
		return nil, api.Errorf(api.Cancelled, "the hold was cancelled: %w", context.Cause(ctx))
	}
	m := &api.Manifest{Version: 1, ID: "20261120T114653_0001", Policy: r.Policy, State: api.Released, Created: Epoch,
		Consistency: api.Application, Window: 2 * time.Second}
	for _, v := range r.Volumes {
		m.Volumes = append(m.Volumes, api.Snapshot{Volume: v, MountPoint: v, Frozen: true})
	}
	if r.Policy == "degraded" {
		m.Consistency, m.Reasons = api.Filesystem, []string{"writer postgresql let go early"}
	}
	return m, nil
}

// Holds are the requests that Quiesce was given, and Released what the requesters said when they released them.
func (f *Fake) Holds() (requests []api.QuiesceRequest, released []bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]api.QuiesceRequest(nil), f.holds...), append([]bool(nil), f.released...)
}

// Sets implements api.Service.
func (f *Fake) Sets() []api.Manifest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]api.Manifest(nil), f.sets...)
}

func (f *Fake) change(id string, change func(i int) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.sets {
		if f.sets[i].ID == id {
			return change(i)
		}
	}
	return api.Errorf(api.NotFound, "there is no set %q", id)
}

// DeleteSet implements api.Service. A mounted set is refused.
func (f *Fake) DeleteSet(_ context.Context, id string) error {
	return f.change(id, func(i int) error {
		if len(f.sets[i].Mounts) > 0 {
			return api.Errorf(api.Refused, "set %s is mounted", id)
		}
		f.sets = append(f.sets[:i:i], f.sets[i+1:]...)
		return nil
	})
}

// Policies implements api.Service: "db" with two sets, and one that is disabled.
func (f *Fake) Policies() []api.Policy {
	return []api.Policy{
		{Name: "db", Description: "the shop", Volumes: []string{"/srv/db", "/srv/wal"}, Writers: []string{"postgresql"}, Consistency: "application",
			Method: "copy-on-write", Prunes: true, Sets: 2, Last: time.Date(2026, 11, 20, 11, 46, 53, 0, time.UTC)},
		{Name: "home", Problem: `policies.d/home.yaml:1:10: volumes: the list is empty: at least 1 is needed`},
	}
}

// PrunePolicy implements api.Service: of policy "db" one set is kept, and one dropped; of "stuck" it cannot be.
func (f *Fake) PrunePolicy(_ context.Context, name string, dryRun bool) ([]api.Verdict, error) {
	if name != "db" && name != "stuck" {
		return nil, api.Errorf(api.Invalid, "policy %q is unknown", name)
	}
	day := time.Date(2026, 11, 20, 3, 0, 0, 0, time.UTC)
	verdicts := []api.Verdict{
		{ID: "20261120T030000_0002", Created: day, Keep: true, Reasons: []string{"last", "daily 2026-11-20"}},
		{ID: "20261119T030000_0001", Created: day.AddDate(0, 0, -1), Reasons: []string{"no rule keeps it"}, Deleted: !dryRun && name == "db"},
	}
	if name == "stuck" && !dryRun {
		verdicts[1].Error = "cannot delete set 20261119T030000_0001: vg/snap is busy"
	}
	return verdicts, nil
}

// MountSet implements api.Service.
func (f *Fake) MountSet(_ context.Context, id string, o api.MountOptions) ([]api.Mount, error) {
	root := o.Target
	if root == "" {
		root = "/run/fermata/mnt/" + id
	}
	var mounts []api.Mount
	err := f.change(id, func(i int) error {
		for _, v := range f.sets[i].Volumes {
			mounts = append(mounts, api.Mount{MountPoint: v.MountPoint, Path: root + v.MountPoint, Device: "/dev/" + v.Name, Writable: o.Writable})
		}
		f.sets[i].Mounts = mounts
		return nil
	})
	return mounts, err
}

// UmountSet implements api.Service.
func (f *Fake) UmountSet(_ context.Context, id string) error {
	return f.change(id, func(i int) error {
		f.sets[i].Mounts = nil
		return nil
	})
}

// ResizeSet implements api.Service.
func (f *Fake) ResizeSet(_ context.Context, id string, o api.ResizeOptions) (done []api.Snapshot, err error) {
	err = f.change(id, func(i int) error {
		for k := range f.sets[i].Volumes {
			v := &f.sets[i].Volumes[k]
			if o.Volume != "" && o.Volume != v.Volume && o.Volume != v.MountPoint {
				continue
			}
			cow := api.COW{Size: 1 << 30, Used: 1 << 28, Metadata: 1 << 14}
			if v.COW != nil {
				cow = *v.COW
			}
			if o.Grow {
				cow.Size += o.Size
			} else {
				cow.Size = max(cow.Size, o.Size)
			}
			v.COW = &cow
			done = append(done, *v)
		}
		if done == nil {
			return api.Errorf(api.Invalid, "no volume %q", o.Volume)
		}
		return nil
	})
	return done, err
}

// VerifySet implements api.Service: it finds what was put into the manifest as verified, or that all is good.
func (f *Fake) VerifySet(_ context.Context, id string, progress func(string)) (v *api.Verification, err error) {
	progress("verify postgresql")
	err = f.change(id, func(i int) error {
		if f.sets[i].Verified == nil {
			f.sets[i].Verified = &api.Verification{Time: f.sets[i].Created.Add(time.Hour), OK: true, Checks: []api.Check{{Writer: "postgresql", Duration: time.Second}}}
		}
		v = f.sets[i].Verified
		return nil
	})
	return v, err
}

// ReportSet implements api.Service.
func (f *Fake) ReportSet(_ context.Context, id string, o api.ReportOptions) (r *api.Report, err error) {
	err = f.change(id, func(i int) error {
		if f.sets[i].Reported != nil && !o.Force {
			return api.Errorf(api.Invalid, "it was reported on already")
		}
		r = &api.Report{Outcome: o.Outcome, Time: f.sets[i].Created.Add(2 * time.Hour), By: o.By, Writers: []api.Told{{Writer: "postgresql", Duration: time.Second}}}
		f.sets[i].Reported = r
		return nil
	})
	return r, err
}

// PinSet implements api.Service.
func (f *Fake) PinSet(_ context.Context, id, by string) error {
	return f.change(id, func(i int) error { f.sets[i].Pinned = &api.Pin{Time: f.sets[i].Created, By: by}; return nil })
}

// UnpinSet implements api.Service.
func (f *Fake) UnpinSet(_ context.Context, id string) error {
	return f.change(id, func(i int) error { f.sets[i].Pinned = nil; return nil })
}

// Writers implements api.Service.
func (f *Fake) Writers() []api.Writer {
	return []api.Writer{
		{Name: "postgresql", Type: "exec", Level: "back-end", Required: true,
			Components: []api.Component{{Name: "cluster", Paths: []string{"/srv/db"}, Excludes: []string{"pg_wal/*"}, LogFiles: []string{"/var/log/pg"}, RestoreMethod: "replace"}},
			OnFailure:  "abort", Last: &api.WriterRun{Set: "20261120T114653_0001", Policy: "db", Time: Epoch, State: "released", Phases: []api.Phase{
				{Name: "prepare", Duration: 12 * time.Millisecond}, {Name: "freeze", Duration: 1200 * time.Microsecond},
				{Name: "hold", Duration: 4 * time.Millisecond, Window: true}, {Name: "thaw", Duration: 400 * time.Microsecond}}},
			LastFailure: &api.WriterRun{Set: "20261119T114653_0001", Time: Epoch.Add(-24 * time.Hour), State: "failed", Error: "cannot freeze writer postgresql: no answer"}},
		{Name: "web", Type: "exec", Level: "front-end", Problem: "/etc/fermata/writers.d/web.yaml:3:1: unknown key"},
	}
}

// TestWriter implements api.Service: "web" fails, "late" degrades, "nosuch" does not exist, everything else is well.
func (f *Fake) TestWriter(_ context.Context, r api.WriterTestRequest, progress func(string)) (*api.WriterTest, error) {
	progress("prepare-writers")
	w := api.Writer{Name: r.Writer, Type: "exec", Level: "back-end", Required: true, State: "released", Phases: []api.Phase{
		{Name: "prepare", Duration: 12 * time.Millisecond}, {Name: "freeze", Duration: 1200 * time.Microsecond},
		{Name: "hold", Duration: 200 * time.Millisecond, Window: true}, {Name: "thaw", Duration: 400 * time.Microsecond}, {Name: "post", Duration: 300 * time.Microsecond}},
		Data: map[string]any{"prepare": map[string]any{"policy": r.Policy}}}
	switch r.Writer {
	case "nosuch":
		return nil, api.Errorf(api.NotFound, "writer %q is unknown", r.Writer)
	case "web":
		w.State, w.Phases = "failed", []api.Phase{{Name: "prepare", Duration: time.Millisecond, Error: "it exited"}}
		return &api.WriterTest{Writer: w, Class: api.Broken, Error: "cannot prepare writer web: it exited"}, nil
	case "late":
		w.State, w.Required = "failed", false
		return &api.WriterTest{Writer: w, Consistency: api.Filesystem, Reasons: []string{"writer late: no answer to freeze within 10s"}}, nil
	}
	return &api.WriterTest{Writer: w, Consistency: api.Application}, nil
}

// Providers implements api.Service.
func (f *Fake) Providers() []api.Provider {
	return []api.Provider{{Name: "thin", Kind: "built-in", Usable: true, Version: "1.2", Capabilities: []string{"copy", "pools"}}, {Name: "san", Kind: "hardware", Problem: "plug-in not found"}}
}

// Pools implements api.Service.
func (f *Fake) Pools(context.Context) ([]api.Pool, error) {
	return []api.Pool{{Name: "vg/pool", Provider: "thin", Device: "vg-pool-tpool", Mode: "rw",
		Size: 100 << 30, Used: 42 << 30, MetadataSize: 128 << 20, MetadataUsed: 9 << 20,
		Level: "ok", Trend: api.Trend{FullIn: 76 * time.Hour}, MetadataTrend: api.Trend{Steady: true}}}, nil
}

// ShowPool implements api.Service.
func (f *Fake) ShowPool(ctx context.Context, name string) (*api.PoolDetails, error) {
	pools, _ := f.Pools(ctx)
	if name != pools[0].Name {
		return nil, api.Errorf(api.NotFound, "no pool %q", name)
	}
	at := time.Date(2026, 11, 20, 11, 46, 53, 0, time.UTC)
	return &api.PoolDetails{Pool: pools[0], Since: at, Extension: "Fermata, by 20% from warning on",
		Acts:      []api.PoolAct{{Time: at, Act: "extend-data", Outcome: "ok", Level: "warning", Detail: "from 80 to 100 GiB"}},
		Snapshots: []api.PoolSnapshot{{Name: "vg/data.20261120T114653_7f3a", Set: "20261120T114653_7f3a", Policy: "db", Volume: "vg/data", Created: at}}}, nil
}

// MeasurePool implements api.Service.
func (f *Fake) MeasurePool(ctx context.Context, name string) (*api.PoolDetails, error) {
	p, err := f.ShowPool(ctx, name)
	if err == nil {
		p.Snapshots[0].Share = &api.PoolShare{Mapped: 20 << 30, Own: 3 << 30}
	}
	return p, err
}

// ExtendPool implements api.Service.
func (f *Fake) ExtendPool(ctx context.Context, name string, o api.ExtendOptions) (*api.Pool, error) {
	p, err := f.ShowPool(ctx, name)
	if err != nil {
		return nil, err
	}
	to := &p.Size
	if o.Metadata {
		to = &p.MetadataSize
	}
	*to += o.Size + uint64(o.Percent/100*float64(*to))
	return &p.Pool, nil
}

// Volumes implements api.Service.
func (f *Fake) Volumes(context.Context) ([]api.Volume, error) {
	disk := func(name, number string) api.Node {
		return api.Node{Kind: api.NodeDisk, Name: name, Device: number, Size: 20 << 30}
	}
	return []api.Volume{
		{Name: "vg/db", Device: "/dev/vg/db", Size: 10 << 30, FSType: "ext4", MountPoints: []string{"/srv/db"}, Disks: []string{"sda", "sdb"}, Provider: "thin", Freezable: true,
			Refused: map[string]string{"dm": "a volume of LVM", "thick": "a thin volume"},
			Stack: &api.Node{Kind: api.NodeMount, Name: "/srv/db", Size: 10 << 30, Below: []api.Node{{Kind: api.NodeFilesystem, Name: "ext4", Size: 10 << 30, Below: []api.Node{
				{Kind: api.NodeLVM, Name: "vg/db", Device: "253:3", Size: 10 << 30, Targets: []string{"thin"}, UUID: "LVM-3YpU2n", Below: []api.Node{
					{Kind: api.NodeLVM, Name: "vg/pool", Device: "253:2", Size: 15 << 30, Targets: []string{"thin-pool"}, Layer: "tpool", Below: []api.Node{
						{Kind: api.NodeLVM, Name: "vg/pool_tmeta", Device: "253:0", Size: 16 << 20, Targets: []string{"linear"}, Layer: "tmeta", Below: []api.Node{disk("sda", "8:0")}},
						{Kind: api.NodeLVM, Name: "vg/pool_tdata", Device: "253:1", Size: 15 << 30, Targets: []string{"striped"}, Layer: "tdata", Below: []api.Node{disk("sda", "8:0"), disk("sdb", "8:16")}},
					}}}}}}}},
		},
		{Name: "sda1", Device: "/dev/sda1", Size: 512 << 20, FSType: "vfat", MountPoints: []string{"/boot/efi"}, Disks: []string{"sda"}, Problem: "it is no device-mapper volume", Unfrozen: "vfat cannot be frozen",
			Stack: &api.Node{Kind: api.NodeMount, Name: "/boot/efi", Size: 512 << 20, Below: []api.Node{{Kind: api.NodeFilesystem, Name: "vfat", Size: 512 << 20, Below: []api.Node{
				{Kind: api.NodePartition, Name: "sda1", Device: "8:1", Size: 512 << 20, Below: []api.Node{disk("sda", "8:0")}}}}}},
		},
	}, nil
}

// Status implements api.Service.
func (f *Fake) Status() api.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return api.Status{Version: "1.2.3", Started: Epoch, Sets: len(f.sets), Guard: "ok"}
}
