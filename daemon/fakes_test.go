package daemon

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/fsfreeze/guard"
	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/child"
)

// fakeHost is the operating system of a world.
type fakeHost struct{ *world }

func (h *fakeHost) GuardPaths() (socket, notes string) {
	return filepath.Join(h.dir, "guard.sock"), filepath.Join(h.dir, "notes")
}

func (h *fakeHost) Mounts() (out []fsfreeze.Mount, err error) {
	err = h.via("mounts", "", func() error {
		out = []fsfreeze.Mount{{ID: 1, Dev: 1, Point: "/", Root: "/", FSType: "overlay"}}
		for i, dev := range []uint64{devA, devB, devImg} {
			out = append(out, fsfreeze.Mount{ID: 2 + i, Dev: dev, Point: h.path(volumeNames[dev]), Root: "/", FSType: "ext4"})
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		out = append(out, h.mounted...)
		return nil
	})
	return out, err
}

func (h *fakeHost) BlockDevice(path string) (dev uint64, ok bool, err error) {
	err = h.via("block-device", filepath.Base(path), func() error {
		if path == rawPath {
			dev, ok = devRaw, true
		}
		if strings.HasPrefix(path, "/fake/") { // exposed by a fake provider
			sum := fnv.New32a()
			sum.Write([]byte(path))
			dev, ok = unix.Mkdev(254, sum.Sum32()&0xfffff), true
		}
		return nil
	})
	return dev, ok, err
}

// rawPath stands for the device of the volume that is not mounted: it must exist, because links are followed.
const rawPath = "/dev/null"

func (h *fakeHost) BlockDevices() ([]uint64, error) { return []uint64{devA, devB, devImg, devRaw}, nil }

func (h *fakeHost) Stack(dev uint64) (fsfreeze.Device, error) {
	if volumeNames[dev] == "" {
		return fsfreeze.Device{}, unix.ENOENT
	}
	d := fsfreeze.Device{Dev: dev, DM: "vg-" + volumeNames[dev], UUID: "LVM-" + volumeNames[dev], Size: h.size}
	if dev == devImg {
		d.Below = []fsfreeze.Device{{Name: "loop0", Backing: h.path("a") + "/file"}}
	}
	return d, nil
}

func (h *fakeHost) Devices(f fsfreeze.Filesystem) ([]uint64, error) { return []uint64{f.Dev}, nil }

func (h *fakeHost) Targets(uint64) ([]string, error) { return []string{"linear"}, nil }

func (h *fakeHost) Used(string) (uint64, error) { return 4 << 20, nil }

func (h *fakeHost) Free(string) (uint64, error) { return h.free, nil }

func (h *fakeHost) Open(f fsfreeze.Filesystem) (Filesystem, error) {
	s := &fakeFilesystem{world: h.world, system: h.systems[f.Dev], cell: new(fsfreeze.Cell)}
	if err := h.via("open", s.name(), func() error { return nil }); err != nil {
		return nil, err
	}
	h.held("filesystems", 1)
	return s, nil
}

func (h *fakeHost) OpenDevice(dev uint64) (Syncer, error) {
	if err := h.via("open-device", volumeNames[dev], func() error { return nil }); err != nil {
		return nil, err
	}
	h.held("devices", 1)
	return &fakeDevice{h.world, dev}, nil
}

// fakeDevice is an open block device.
type fakeDevice struct {
	*world
	dev uint64
}

func (f *fakeDevice) Sync() error {
	return f.via("sync", volumeNames[f.dev], func() error {
		if len(f.suspended()) > 0 {
			f.violated("%s is synced while a volume is suspended", volumeNames[f.dev])
		}
		return nil
	})
}

func (f *fakeDevice) Close() error {
	return f.via("close", volumeNames[f.dev], func() error { f.held("devices", -1); return nil })
}

func (h *fakeHost) OpenCounter(dev uint64) (Counter, error) {
	c := &fakeCounter{h.world, h.systems[dev]}
	if err := h.via("open-counter", volumeNames[dev], func() error { return nil }); err != nil {
		return nil, err
	}
	h.held("counters", 1)
	return c, nil
}

func (h *fakeHost) LockMemory() (func() error, error) {
	if err := h.via("lock-memory", "", func() error { return nil }); err != nil {
		return nil, err
	}
	h.held("memory locks", 1)
	return func() error {
		return h.via("unlock-memory", "", func() error { h.held("memory locks", -1); return nil })
	}, nil
}

func (h *fakeHost) Arm(_ context.Context, set string, _ time.Duration, fss []Filesystem, devices []uint64) (Guard, error) {
	g := &fakeGuard{world: h.world, set: set, devices: devices, cells: make([]fsfreeze.Cell, len(devices))}
	for _, f := range fss {
		g.systems = append(g.systems, f.(*fakeFilesystem))
	}
	if err := h.via("guard", "", func() error { return nil }); err != nil {
		return nil, err
	}
	for _, f := range g.systems {
		f.cell = new(fsfreeze.Cell)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.guard = g
	return g, nil
}

// Mount mounts what a fake provider has exposed.
func (h *fakeHost) Mount(c MountCall) error {
	return h.via("mount", "", func() error {
		dev, ok, err := h.BlockDevice(c.Device)
		if err != nil || !ok {
			return fmt.Errorf("cannot mount %s: %w", c.Device, errors.Join(err, unix.ENOTBLK))
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.mounted = append(h.mounted, fsfreeze.Mount{ID: 100 + len(h.mounted), Dev: dev, Point: c.Path, Root: "/", Source: c.Device, FSType: c.FSType})
		return nil
	})
}

func (h *fakeHost) Unmount(path string) error {
	return h.via("unmount", "", func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		i := slices.IndexFunc(h.mounted, func(m fsfreeze.Mount) bool { return m.Point == path })
		if i < 0 {
			return unix.EINVAL
		}
		h.mounted = slices.Delete(h.mounted, i, i+1)
		return nil
	})
}

// Started knows the processes that a test has set.
func (h *fakeHost) Started(pid int) (uint64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.processes[pid], nil
}

func (h *fakeHost) RenewID(_ context.Context, device string) error {
	return h.via("renew-id", "", func() error { return nil })
}

func (h *fakeHost) CheckFilesystem(_ context.Context, s *child.Stage) error {
	return h.via("check", filepath.Base(s.Mounts[0].Path), func() error { return nil })
}

// Rescue releases what a dead daemon and its dead guard have left. Like the kernel, it cannot tell whose freeze it is.
func (h *fakeHost) Rescue(held held, _ bool) ([]string, error) {
	var did []string
	for _, dev := range held.Devices {
		err := h.via("rescue", volumeNames[dev], func() error {
			if h.resume(dev) == nil {
				did = append(did, "resumed "+volumeNames[dev])
			}
			return nil
		})
		if err != nil {
			return did, err
		}
	}
	for _, f := range held.Filesystems {
		err := h.via("rescue", filepath.Base(f.Point), func() error {
			h.freeze(f.Dev, "")
			did = append(did, "thawed "+f.Point)
			return nil
		})
		if err != nil {
			return did, err
		}
	}
	return did, nil
}

// resume answers EINVAL if the device is not suspended.
func (w *world) resume(dev uint64) error {
	for _, s := range w.storage {
		for _, x := range s.Suspended() {
			if uint64(x) == dev {
				s.Suspend(x, false)
				return nil
			}
		}
	}
	return unix.EINVAL
}

// fakeFilesystem is an open filesystem. It keeps the rules of the kernel.
type fakeFilesystem struct {
	*world
	*system
	cell   *fsfreeze.Cell
	closed atomic.Bool
}

func (f *fakeFilesystem) name() string  { return filepath.Base(f.point) }
func (f *fakeFilesystem) Point() string { return f.point }

func (f *fakeFilesystem) Sync() error {
	return f.via("sync", f.name(), func() error {
		if len(f.world.frozen("ours")) > 0 {
			f.violated("%s is synced inside the window", f.name())
		}
		return nil
	})
}

func (f *fakeFilesystem) Freeze() error {
	return f.via("freeze", f.name(), func() error {
		if !f.cell.Begin() {
			return &fsfreeze.Error{Op: "freeze", Point: f.point, Err: fsfreeze.ErrOvertaken}
		}
		err := f.fifreeze()
		ours := f.cell.Took(err == nil)
		if err == nil && !ours {
			err = fsfreeze.ErrOvertaken
		}
		if err != nil {
			return &fsfreeze.Error{Op: "freeze", Point: f.point, Err: err}
		}
		return nil
	})
}

func (f *fakeFilesystem) fifreeze() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dev == devImg && f.systems[devA].frozen == "ours" {
		f.wrong = append(f.wrong, "img is frozen after a, which holds its file: this hangs")
	}
	if f.system.frozen != "" {
		return fmt.Errorf("%w: %w", unix.EBUSY, fsfreeze.ErrFrozen)
	}
	f.system.frozen = "ours"
	return nil
}

func (f *fakeFilesystem) Thaw() error {
	return f.via("thaw", f.name(), func() error {
		if !f.cell.Claim() {
			return nil
		}
		err := f.fithaw()
		f.cell.Done()
		if err != nil {
			return &fsfreeze.Error{Op: "thaw", Point: f.point, Err: fmt.Errorf("%w: %w", err, fsfreeze.ErrThawed)}
		}
		return nil
	})
}

func (f *fakeFilesystem) fithaw() error {
	f.mu.Lock()
	g := f.guard
	f.mu.Unlock()
	for g != nil && g.died.Load() && slices.Contains(f.suspended(), dm.Dev(f.dev)) { // as in the kernel
		time.Sleep(time.Millisecond)
	}
	suspended := f.suspended()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, dev := range suspended { // a guard that has fired resumes it
		if uint64(dev) == f.dev && (f.guard == nil || !f.guard.Fired()) {
			f.wrong = append(f.wrong, f.name()+" is thawed while its device is suspended: this blocks")
		}
	}
	switch f.system.frozen {
	case "":
		return unix.EINVAL
	case "theirs":
		f.wrong = append(f.wrong, f.name()+": somebody else's freeze was thawed")
	}
	f.system.frozen = ""
	return nil
}

func (f *fakeFilesystem) release() error {
	_, err := fsfreeze.Release(f.cell, f.fithaw, time.Minute, nil)
	return err
}

func (f *fakeFilesystem) Close() error {
	return f.via("close", f.name(), func() error {
		if s := f.cell.State(); (s == fsfreeze.Idle || s == fsfreeze.Released) && f.closed.CompareAndSwap(false, true) {
			f.held("filesystems", -1)
		}
		return nil
	})
}

type fakeCounter struct {
	*world
	*system
}

func (c *fakeCounter) Read() (n dm.Writes, err error) {
	err = c.via("count", filepath.Base(c.point), func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		n = c.writes
		return nil
	})
	return n, err
}

func (c *fakeCounter) Close() error {
	return c.via("close-counter", filepath.Base(c.point), func() error { c.held("counters", -1); return nil })
}

// fakeGuard watches a hold, and releases it when a test says so.
type fakeGuard struct {
	*world
	set     string
	systems []*fakeFilesystem
	devices []uint64
	cells   []fsfreeze.Cell
	ended   atomic.Uint32 // guard.Reason
	report  guard.Report
	over    sync.WaitGroup
	died    atomic.Bool
	own     sync.WaitGroup // what the daemon releases in its place
	once    sync.Once
}

func (g *fakeGuard) DeviceCell(i int) *fsfreeze.Cell { return &g.cells[i] }
func (g *fakeGuard) Fired() bool                     { return g.ended.Load() != uint32(guard.Open) }

// Expire has the daemon release what the guard has not.
func (g *fakeGuard) Expire(limit time.Duration) {
	g.end(guard.Deadline)
	g.reclaim()
	if limit < 0 {
		g.own.Wait()
		return
	}
	await(&g.own, limit)
}

// await waits for a group, at most limit, and reports whether it came to its end.
func await(w *sync.WaitGroup, limit time.Duration) bool {
	done := make(chan struct{})
	go func() {
		w.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}

func (g *fakeGuard) reclaim() {
	one := func(c *fsfreeze.Cell, name string, release func() error) {
		if _, err := fsfreeze.Reclaim(c, release, time.Minute, g.died.Load); err != nil {
			g.violated("%s cannot be released in the guard's place: %v", name, err)
		}
	}
	g.once.Do(func() {
		var devices sync.WaitGroup
		for i, dev := range g.devices {
			devices.Go(func() { one(&g.cells[i], volumeNames[dev], func() error { return g.resume(dev) }) })
		}
		g.own.Go(func() {
			await(&devices, 200*time.Millisecond)
			for _, f := range g.systems {
				g.own.Go(func() { one(f.cell, f.name(), f.fithaw) })
			}
			devices.Wait()
		})
	})
}

// die ends the guard after its deadline, when it has claimed some of what it would release, and released nothing.
func (g *fakeGuard) die(devices, systems bool) {
	if !g.end(guard.Deadline) {
		return
	}
	claim := func(c *fsfreeze.Cell) { _ = c.Forbid() || c.Seize() || c.Overtake() }
	for i := range g.cells {
		if devices {
			claim(&g.cells[i])
		}
	}
	for _, f := range g.systems {
		if systems {
			claim(f.cell)
		}
	}
	g.died.Store(true)
}

func (g *fakeGuard) end(r guard.Reason) bool {
	return g.ended.CompareAndSwap(uint32(guard.Open), uint32(r))
}

// fire releases everything, without the daemon's help and at its own pace.
func (g *fakeGuard) fire(r guard.Reason) {
	if g.end(r) {
		g.over.Go(func() { g.release(r) })
	}
}

func (g *fakeGuard) release(r guard.Reason) {
	g.report.Reason = r.String()
	for i, dev := range g.devices {
		if ok, err := fsfreeze.Release(&g.cells[i], func() error { return g.resume(dev) }, time.Minute, nil); ok && err == nil {
			g.report.Released = append(g.report.Released, volumeNames[dev])
		}
	}
	for _, f := range g.systems {
		if err := f.release(); err != nil {
			g.violated("the guard cannot release %s: %v", f.name(), err)
		}
		g.report.Released = append(g.report.Released, f.name())
	}
}

func (g *fakeGuard) Close() (guard.Reason, guard.Report, error) {
	err := g.via("guard-close", "", func() error {
		g.end(guard.Closed)
		defer func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.guard = nil
		}()
		if g.died.Load() {
			g.reclaim()
			g.own.Wait()
			return errors.New("cannot hear from the guard: EOF")
		}
		if !await(&g.over, 2*time.Second) { // something is stuck: the guard goes on alone
			return errors.New("cannot hear from the guard")
		}
		return nil
	})
	return guard.Reason(g.ended.Load()), g.report, err
}

// fakeWriter notes what it is told.
type fakeWriter struct {
	*world
	spec    hooks.Spec
	told    []hooks.Phase
	events  []hooks.Event
	holding atomic.Bool
	lost    atomic.Bool
}

func (w *world) newWriter(c config.Writer) (hooks.Writer, error) {
	x := &fakeWriter{world: w, spec: hooks.Spec{
		Name: c.Name, Level: hooks.Level(c.Level), Required: c.Required, OnFailure: hooks.OnFailure(c.OnFailure), Timeouts: hooks.DefaultTimeouts,
		Recover: c.Recover, Verify: c.Verify, Report: c.Report,
	}}
	err := w.via("new-writer", c.Name, func() error { return nil })
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writers[c.Name] = x
	w.open["writers"]++
	return x, nil
}

func (x *fakeWriter) tell(ctx context.Context, p hooks.Phase, ev hooks.Event, effect func() error) (hooks.Answer, error) {
	if f := x.frozen("ours"); len(f) > 0 {
		x.violated("writer %s is told %s while %v are frozen", x.spec.Name, p, f)
	}
	x.mu.Lock()
	x.told, x.events = append(x.told, p), append(x.events, ev)
	x.mu.Unlock()
	err := x.via("writer-"+string(p), x.spec.Name, func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return effect()
	})
	if err != nil {
		err = fmt.Errorf("cannot %s writer %s: %w", p, x.spec.Name, err)
	}
	return hooks.Answer{Data: map[string]any{"phase": string(p)}}, err
}

func (x *fakeWriter) Spec() hooks.Spec { return x.spec }

func (x *fakeWriter) Prepare(ctx context.Context, ev hooks.Event) (hooks.Answer, error) {
	return x.tell(ctx, hooks.PhasePrepare, ev, func() error { return nil })
}

func (x *fakeWriter) Freeze(ctx context.Context, ev hooks.Event) (hooks.Answer, error) {
	return x.tell(ctx, hooks.PhaseFreeze, ev, func() error { x.holding.Store(true); return nil })
}

func (x *fakeWriter) Thaw(ctx context.Context, ev hooks.Event) (hooks.Answer, error) {
	return x.tell(ctx, hooks.PhaseThaw, ev, func() error {
		if x.holding.Store(false); x.lost.Load() {
			return hooks.ErrHoldLost
		}
		return nil
	})
}

func (x *fakeWriter) Abort(ctx context.Context, ev hooks.Event) error {
	_, err := x.tell(ctx, hooks.PhaseAbort, ev, func() error { x.holding.Store(false); return nil })
	return err
}

func (x *fakeWriter) Post(ctx context.Context, ev hooks.Event) (hooks.Answer, error) {
	return x.tell(ctx, hooks.PhasePost, ev, func() error { return nil })
}

// Abandoned is told by a daemon after the one that had asked it.
func (x *fakeWriter) Abandoned(ctx context.Context, ev hooks.Event, held bool) error {
	var err error
	if held {
		_, err = x.tell(ctx, hooks.PhaseThaw, ev, func() error { return nil })
	}
	_, abortErr := x.tell(ctx, hooks.PhaseAbort, ev, func() error { return nil })
	return errors.Join(err, abortErr)
}

// Ask writes to everything that is on its stage.
func (x *fakeWriter) Ask(ctx context.Context, p hooks.Phase, ev hooks.Event) (hooks.Answer, error) {
	return x.tell(ctx, p, ev, func() error {
		if p == hooks.PhaseReport {
			return nil
		}
		for _, m := range ev.Stage.Mounts {
			label, _, _ := strings.Cut(strings.TrimPrefix(m.Device, "/fake/"), "/")
			if err := x.storage[label].WriteExposed(m.Device, string(p), filepath.Base(m.Path)); err != nil {
				x.violated("writer %s is told %s: %v", x.spec.Name, p, err)
			}
		}
		return nil
	})
}

func (x *fakeWriter) Holding() error {
	if !x.holding.Load() || x.lost.Load() {
		return hooks.ErrNotHolding
	}
	return nil
}

func (x *fakeWriter) Close() error {
	return x.via("writer-close", x.spec.Name, func() error {
		x.holding.Store(false)
		x.held("writers", -1)
		return nil
	})
}
