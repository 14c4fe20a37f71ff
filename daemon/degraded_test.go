package daemon

import (
	"context"
	"errors"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm/provider"
)

// A flush can hang in the kernel, whichever it is. The set ends in time, what hangs is refused at once and named, nothing
// piles up behind it, and when it returns all is as before.
func TestStuckFlush(t *testing.T) {
	plan := rehearse(t)
	tried := map[string]bool{}
	for _, call := range plan.calls {
		if !strings.HasPrefix(call, "sync ") {
			continue
		}
		tried[plan.steps[call]] = true
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.policy.Limits.Prepare, w.policy.Limits.Writers = 500*time.Millisecond, 500*time.Millisecond
			d := w.daemon()
			if err := d.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.reset() // calls are counted from here, as in the plan
			free := make(chan struct{})
			w.tap = on(call, false, func() error { <-free; return nil })
			what, _, _ := strings.Cut(strings.Fields(call)[1], "#")

			begin := time.Now()
			_, err := w.take(t.Context(), d)
			if took := time.Since(begin); api.Of(err) != api.Timeout || took > 20*time.Second ||
				!strings.Contains(err.Error(), "cannot write out ") || !strings.Contains(err.Error(), what+": it has not returned for 0 s (a disk below may have stopped answering: dmesg)") {
				t.Errorf("after %v: %v", took, err)
			}
			if n := len(w.snapshots()); n != 0 || w.holds("filesystems")+w.holds("devices") != 1 || w.holds("calls") != 1 {
				t.Errorf("%d snapshots are left, %d filesystems and %d devices are open, %d calls wait", n, w.holds("filesystems"), w.holds("devices"), w.holds("calls"))
			}
			for range 3 {
				if _, err := w.take(t.Context(), d); api.Of(err) != api.Refused || !strings.Contains(err.Error(), "has not returned for") {
					t.Errorf("asked again: %v", err)
				}
			}
			if w.holds("calls") != 1 {
				t.Errorf("%d calls wait", w.holds("calls"))
			}
			if p := d.Status().Problems; len(p) != 1 || !strings.Contains(p[0], what+" has not returned for") {
				t.Errorf("problems: %q", p)
			}
			if len(d.Sets()) != 1 {
				t.Error("the old set is not listed")
			}
			if volumes, err := d.Volumes(t.Context()); err != nil || len(volumes) == 0 {
				t.Errorf("volumes: %v, %v", volumes, err)
			}
			// What does not hang can be taken.
			others := slices.DeleteFunc([]string{w.path("a"), w.path("b")}, func(p string) bool { return strings.HasSuffix(p, "/"+what) })
			m, err := d.CreateSet(t.Context(), api.Request{Volumes: others}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.DeleteSet(t.Context(), m.ID); err != nil {
				t.Error(err)
			}

			close(free)
			for end := time.Now().Add(5 * time.Second); len(d.Status().Problems)+w.holds("calls") > 0; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("afterwards: %q, %d calls wait", d.Status().Problems, w.holds("calls"))
				}
			}
			w.nothing(t, d)
			m, err = w.take(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			w.everything(t, d, m)
		})
	}
	for _, step := range []string{"open", "flush", "freeze-writers"} {
		if !tried[step] {
			t.Errorf("nothing hung in step %s", step)
		}
	}
}

// What a provider asks the kernel can hang too. One question is left behind, of each kind.
func TestStuckQuestions(t *testing.T) {
	w := newWorld(t)
	w.policy.Limits.Prepare = 300 * time.Millisecond
	d := w.daemon()
	goroutines := runtime.NumGoroutine()
	free := make(chan struct{})
	w.tap = func(call string, after bool) error {
		if strings.HasPrefix(call, "Admit beta") && !after {
			<-free
		}
		return nil
	}
	for i, want := range []api.Class{api.Timeout, api.Refused, api.Refused} {
		_, err := w.take(t.Context(), d)
		if api.Of(err) != want || !strings.Contains(err.Error(), "cannot ask provider beta for room: ") || w.holds("calls") != 1 {
			t.Errorf("try %d: %v; %d calls wait", i, err, w.holds("calls"))
		}
	}
	if p := d.Status().Problems; len(p) != 1 || !strings.HasPrefix(p[0], "provider beta, asked for room, has not returned for ") {
		t.Errorf("problems: %q", p)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	asked := 0
	p := poolerFunc(func() ([]provider.Pool, error) { asked++; <-free; return nil, nil })
	for range 3 {
		if pools, err := d.pools(ctx, p, "beta"); err == nil || pools != nil {
			t.Errorf("got %v, %v", pools, err)
		}
	}
	close(free)
	for len(d.Status().Problems) > 0 {
		time.Sleep(time.Millisecond)
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	if _, err := d.pools(t.Context(), p, "beta"); err != nil {
		t.Error(err)
	}
	m, err := w.take(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	w.everything(t, d, m)
	settled(t, goroutines)
}

// settled fails if more goroutines run than before.
func settled(t *testing.T, before int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
			t.Fatalf("%d goroutines, before %d", runtime.NumGoroutine(), before)
		}
	}
}

type poolerFunc func() ([]provider.Pool, error)

func (f poolerFunc) Pools() ([]provider.Pool, error) { return f() }

// A requester that goes away does not wait for a flush either.
func TestCancelledInFlush(t *testing.T) {
	w := newWorld(t)
	d := w.daemon()
	ctx, cancel := context.WithCancel(t.Context())
	free := make(chan struct{})
	w.tap = on("sync b#1", false, func() error { cancel(); <-free; return nil })
	if _, err := w.take(ctx, d); api.Of(err) != api.Cancelled {
		t.Errorf("got %v", err)
	}
	close(free)
	for len(d.Status().Problems) > 0 {
		time.Sleep(time.Millisecond)
	}
	w.nothing(t, d)
}

// Whatever else asks the kernel can hang in it. The set ends in time, the next one is refused with the reason or goes on,
// and when the call returns all is as before.
func TestStuckOutsideTheWindow(t *testing.T) {
	plan := rehearse(t)
	tried := map[string]bool{}
	for _, call := range plan.calls {
		kind := strings.FieldsFunc(call, func(r rune) bool { return r == ' ' || r == '#' })[0]
		if !slices.Contains([]string{"mounts", "block-device", "open", "open-device", "Prepare", "Lock", "Verify", "Finalize"}, kind) {
			continue
		}
		tried[kind] = true
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.policy.Limits.Prepare, w.policy.Limits.Writers = 2*time.Second, 2*time.Second
			d := w.daemon()
			d.changeLimit, d.undoLimit = 2*time.Second, 2*time.Second
			if err := d.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.reset() // calls are counted from here, as in the plan
			free := make(chan struct{})
			w.tap = on(call, false, func() error { <-free; return nil })
			begin := time.Now()
			_, err := w.take(t.Context(), d)
			if took := time.Since(begin); api.Of(err) != api.Timeout || took > 30*time.Second || !strings.Contains(err.Error(), "it has not returned for ") {
				t.Errorf("after %v: %v", took, err)
			}
			if f, s := w.frozen("ours"), w.suspended(); len(f)+len(s) > 0 || w.holds("calls") != 1 {
				t.Errorf("frozen: %v, suspended: %v, %d calls wait", f, s, w.holds("calls"))
			}
			if p := d.Status().Problems; len(p) == 0 || !strings.Contains(strings.Join(p, "\n"), " has not returned for ") {
				t.Errorf("problems: %q", p)
			}
			for range 2 {
				_, err := w.take(t.Context(), d)
				if api.Of(err) != api.Refused || !strings.Contains(err.Error(), "has not returned for") || w.holds("calls") != 1 {
					t.Errorf("asked again: %v; %d calls wait", err, w.holds("calls"))
				}
			}
			if len(d.Sets()) != 1 {
				t.Error("the old set is not listed")
			}

			close(free)
			for end := time.Now().Add(10 * time.Second); w.holds("calls") > 0 || strings.Contains(strings.Join(d.Status().Problems, "\n"), "has not returned"); time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("afterwards: %q, %d calls wait", d.Status().Problems, w.holds("calls"))
				}
			}
			m, err := w.take(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			w.everything(t, d, m)
			if p := d.Status().Problems; len(p) != 0 {
				t.Errorf("problems: %q", p)
			}
		})
	}
	if len(tried) < 8 {
		t.Errorf("tried only %v", tried)
	}
}

// A mount or an unmount that does not return holds up its set, and nothing else.
func TestStuckMount(t *testing.T) {
	for _, call := range []string{"mount#2", "unmount#1"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			w, d, id := mountable(t)
			d.changeLimit, d.undoLimit = time.Second, time.Second
			if call == "unmount#1" {
				if _, err := d.MountSet(t.Context(), id, api.MountOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			snaps := len(w.snapshots())
			free := make(chan struct{})
			w.tap = on(call, false, func() error { <-free; return nil })
			var err error
			if call == "unmount#1" {
				err = d.UmountSet(t.Context(), id)
			} else {
				_, err = d.MountSet(t.Context(), id, api.MountOptions{})
			}
			if api.Of(err) != api.Timeout || !strings.Contains(err.Error(), "it has not returned for ") || !strings.Contains(err.Error(), "(a disk below") {
				t.Errorf("got %v", err)
			}
			for range 2 {
				_, mount := d.MountSet(t.Context(), id, api.MountOptions{})
				for verb, err := range map[string]error{"mount": mount, "umount": d.UmountSet(t.Context(), id), "delete": d.DeleteSet(t.Context(), id)} {
					if err == nil || !strings.Contains(err.Error(), "has not returned for") && !strings.Contains(err.Error(), "it is mounted already") {
						t.Errorf("%s: %v", verb, err)
					}
				}
			}
			if w.holds("calls") != 1 || len(w.snapshots()) != snaps || len(d.Sets()) == 0 {
				t.Errorf("%d calls wait; %d of %d snapshots, %d sets", w.holds("calls"), len(w.snapshots()), snaps, len(d.Sets()))
			}
			if _, err := w.take(t.Context(), d); err != nil {
				t.Errorf("another set: %v", err)
			}
			close(free)
			for end := time.Now().Add(10 * time.Second); d.calls.left(mountKey(id)) != nil; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("it is still told of")
				}
			}
			if err := d.DeleteSet(t.Context(), id); err != nil || len(w.mounted) > 0 {
				t.Errorf("%v, mounted: %v", err, w.mounted)
			}
			w.clean(t, d)
		})
	}
}

// hanging is a provider whose commands do not return, but for the time limit that they are given.
type hanging struct {
	provider.Provider
	at atomic.Pointer[string] // which of them; "all"
}

func (p *hanging) hang(ctx context.Context, call string) error {
	if at := p.at.Load(); at == nil || *at != "all" && *at != call {
		return nil
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func (p *hanging) set(at string) { p.at.Store(&at) }

func (p *hanging) Problems() []string { return []string{"lvs does not return"} }

func (p *hanging) Admit(ctx context.Context, vols []provider.Volume) error {
	return errors.Join(p.hang(ctx, "Admit"), p.Provider.Admit(ctx, vols))
}

func (p *hanging) Snapshots(ctx context.Context) ([]provider.Snapshot, error) {
	if err := p.hang(ctx, "Snapshots"); err != nil {
		return nil, err
	}
	return p.Provider.Snapshots(ctx)
}

func (p *hanging) Mark(ctx context.Context, s []provider.Snapshot) error {
	return errors.Join(p.hang(ctx, "Mark"), p.Provider.Mark(ctx, s))
}

func (p *hanging) Expose(ctx context.Context, s provider.Snapshot) (string, error) {
	if err := p.hang(ctx, "Expose"); err != nil {
		return "", err
	}
	return p.Provider.Expose(ctx, s)
}

func (p *hanging) Prepare(ctx context.Context, set provider.Set, vols []provider.Volume) (provider.Enlistment, error) {
	e, err := p.Provider.Prepare(ctx, set, vols)
	return &hangingSet{e, p}, errors.Join(err, p.hang(ctx, "Prepare"))
}

type hangingSet struct {
	provider.Enlistment
	p *hanging
}

func (e *hangingSet) Finalize(ctx context.Context, f provider.Final) ([]provider.Snapshot, error) {
	out, err := e.Enlistment.Finalize(ctx, f)
	return out, errors.Join(err, e.p.hang(ctx, "Finalize"))
}

func (e *hangingSet) Abort(ctx context.Context) error {
	if err := e.p.hang(ctx, "Abort"); err != nil {
		return err
	}
	return e.Enlistment.Abort(ctx)
}

// hangingWorld is one whose second provider can hang.
func hangingWorld(t *testing.T) (*world, *Daemon, *hanging) {
	w := newWorld(t)
	w.policy.Limits.Prepare = 300 * time.Millisecond
	w.writing[1].Recover = false // hanging cannot open its snapshots
	d := w.daemon()
	d.changeLimit, d.undoLimit = 200*time.Millisecond, 200*time.Millisecond
	p := &hanging{Provider: d.o.Providers[1]}
	d.o.Providers[1] = p
	return w, d, p
}

// A command that does not return ends a set in time, wherever it is, and the undoing of it. What could not be undone is
// told, and removed before the next set.
func TestStuckCommand(t *testing.T) {
	for _, at := range []string{"Admit", "Prepare", "Finalize", "Abort", "all"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			w, d, p := hangingWorld(t)
			p.set(at)
			if at == "Abort" { // and something to undo
				w.tap = on("Lock beta#1", false, func() error { p.set("all"); return errInjected })
			}
			if at == "Finalize" {
				w.tap = on("Finalize beta#1", true, func() error { p.set("all"); return nil })
			}
			begin := time.Now()
			_, err := w.take(t.Context(), d)
			if took := time.Since(begin); took > 20*time.Second || at != "Abort" && api.Of(err) != api.Timeout || err == nil {
				t.Errorf("after %v: %v", took, err)
			}
			left := len(w.snapshots())
			if problems := strings.Join(d.Status().Problems, "\n"); (left > 0) != strings.Contains(problems, "was not taken, and not undone either") ||
				!strings.Contains(problems, "lvs does not return") {
				t.Errorf("%d are left, problems: %s", left, problems)
			}
			if (at == "Finalize" || at == "Abort") && left == 0 {
				t.Error("nothing was left behind: nothing was tested")
			}
			// Whoever comes next waits no longer.
			begin = time.Now()
			if _, err := w.take(t.Context(), d); at == "all" && api.Of(err) != api.Timeout || time.Since(begin) > 20*time.Second {
				t.Errorf("the next, after %v: %v", time.Since(begin), err)
			}
			p.set("")
			w.tap = nil
			m, err := w.take(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			w.everything(t, d, m)
			if problems := d.Status().Problems; len(problems) != 1 || len(d.Sets()) != 2 {
				t.Errorf("afterwards: %q, %d sets", problems, len(d.Sets()))
			}
		})
	}
}

// Nor do a deletion, a mount and a start hold up what comes after them.
func TestStuckCommandInOtherVerbs(t *testing.T) {
	w, d, p := hangingWorld(t)
	d.changeLimit = time.Second // what does not hang must get done
	w.policy.Volumes = w.policy.Volumes[:3]
	m, err := d.CreateSet(t.Context(), api.Request{Volumes: w.policy.Volumes}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.set("all")
	if _, err := d.MountSet(t.Context(), m.ID, api.MountOptions{}); api.Of(err) != api.Timeout {
		t.Errorf("mount: %v", err)
	}
	if err := d.UmountSet(t.Context(), m.ID); api.Of(err) != api.Timeout {
		t.Errorf("umount: %v", err)
	}
	if err := d.DeleteSet(t.Context(), m.ID); api.Of(err) != api.Timeout {
		t.Errorf("delete: %v", err)
	}
	if err := d.Start(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("start: %v", err)
	}
	p.set("")
	if err := d.DeleteSet(t.Context(), m.ID); err != nil || len(w.snapshots()) > 0 {
		t.Errorf("%v, left: %v", err, w.snapshots())
	}
	w.clean(t, d)
}

// A mount table that cannot be read says nothing of what is mounted: nothing is mounted or removed because of it.
func TestUnreadableMountTable(t *testing.T) {
	w, d, id := mountable(t)
	if _, err := d.MountSet(t.Context(), id, api.MountOptions{Writable: true}); err != nil {
		t.Fatal(err)
	}
	snaps, mounts := len(w.snapshots()), len(w.mounted)
	w.tap = func(call string, after bool) error {
		if strings.HasPrefix(call, "mounts") && !after {
			return unix.EIO
		}
		return nil
	}
	_, err := d.MountSet(t.Context(), id, api.MountOptions{})
	for verb, err := range map[string]error{
		"mount": err, "umount": d.UmountSet(t.Context(), id), "delete": d.DeleteSet(t.Context(), id), "start": w.daemon().Start(t.Context()),
	} {
		if !errors.Is(err, unix.EIO) {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if len(w.snapshots()) != snaps || len(w.mounted) != mounts {
		t.Errorf("%d of %d snapshots and %d of %d mounts are left", len(w.snapshots()), snaps, len(w.mounted), mounts)
	}
	w.tap = nil
	if err := d.DeleteSet(t.Context(), id); err != nil || len(w.snapshots())+len(w.mounted) > 0 {
		t.Errorf("%v, left: %v, mounted: %v", err, w.snapshots(), w.mounted)
	}
	w.clean(t, d)
}

var _ provider.Ailing = (*hanging)(nil)
