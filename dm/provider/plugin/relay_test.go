package plugin

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/plugin/pluginmain"
	"github.com/fermata-project/fermata/dm/provider/plugin/protocol"
	"github.com/fermata-project/fermata/dm/provider/providertest"
	"github.com/fermata-project/fermata/fsfreeze"
)

// The plug-in of these tests is a real process, this test program run again, that passes every byte on to the test: so
// its pipes, its death and its time are real, and what it does is the fake provider's, on storage that the test sees.
const relayTo = "FERMATA_TEST_RELAY"

func TestMain(m *testing.M) {
	if path := os.Getenv(relayTo); path != "" {
		relay(path)
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "16"); err != nil { // they wait, most of the time
		panic(err)
	}
	os.Exit(m.Run())
}

func relay(path string) {
	c, err := net.Dial("unix", path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	fmt.Fprintln(os.Stderr, "relaying")
	go func() {
		io.Copy(os.Stdout, c)
		os.Exit(3) // the test had it die
	}()
	io.Copy(c, os.Stdin)
	os.Exit(0)
}

// host is where the relays' other ends are.
type host struct {
	storage *providertest.Storage
	spec    Spec
	options Options

	mu     sync.Mutex
	around func(c net.Conn, q protocol.Request, answer func() []byte) []byte // nil: well-behaved
}

func newHost(t testing.TB, s *providertest.Storage) *host {
	dir, err := os.MkdirTemp("", "relay")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := &host{storage: s, options: Options{Devices: devices{s}}}
	h.spec = Spec{Name: "fake", Command: []string{self}, Limits: DefaultLimits, env: []string{relayTo + "=" + path}}
	var all sync.WaitGroup
	var conns sync.Map
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Store(c, nil)
			all.Go(func() {
				defer c.Close()
				defer conns.Delete(c)
				plugin := &fakePlugin{Fake: providertest.NewFake("fake", s)}
				_ = pluginmain.Serve(c, c, plugin, func(q protocol.Request, answer func() []byte) []byte {
					h.mu.Lock()
					around := h.around
					h.mu.Unlock()
					if around == nil {
						return answer()
					}
					return around(c, q, answer)
				})
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		conns.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		all.Wait()
		os.RemoveAll(dir)
	})
	return h
}

// provider starts the plug-in, as a daemon does that starts.
func (h *host) provider(t testing.TB) provider.Provider {
	t.Helper()
	p, err := Start(context.Background(), h.spec, h.options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.(io.Closer).Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// devices suspends the fake storage's volumes.
type devices struct{ s *providertest.Storage }

type act func()

func (a act) Do() error { a(); return nil }

// state is a volume's, when it was asked last.
type state struct {
	devices
	dev       dm.Dev
	suspended bool
}

func (s *state) Do() (err error) { s.suspended, err = s.devices.Suspended(s.dev); return err }
func (s *state) Suspended() bool { return s.suspended }

func (d devices) Suspension(v provider.Volume) *provider.Suspension {
	return provider.NewSuspension(v.Dev, v.Name, &state{devices: d, dev: v.Dev}, act(func() { d.s.Suspend(v.Dev, true) }), act(func() { d.s.Suspend(v.Dev, false) }))
}

func (d devices) Suspended(dev dm.Dev) (bool, error) {
	for _, x := range d.s.Suspended() {
		if x == dev {
			return true, nil
		}
	}
	return false, nil
}

// fakePlugin is the fake provider as a plug-in.
type fakePlugin struct {
	pluginmain.Nothing
	*providertest.Fake
	part  provider.Enlistment
	cells []provider.Hold
}

func (f *fakePlugin) Hello() protocol.Greeting {
	return protocol.Greeting{Name: "fake", Kind: "software", Version: "1.0", Capabilities: []protocol.Capability{
		protocol.CanCopy, protocol.NeedsSuspend, "a-later-one",
	}}
}

func fromVolume(v protocol.Volume) provider.Volume {
	dev, _ := dm.ParseDev(v.Dev)
	return provider.Volume{
		Dev: dev, Device: v.DMName, UUID: v.DMUUID, Name: v.Name, Size: v.Size, MountPoint: v.MountPoint, FSType: v.FSType,
	}
}

func fromVolumes(vols []protocol.Volume) (out []provider.Volume) {
	for _, v := range vols {
		out = append(out, fromVolume(v))
	}
	return out
}

func coded(err error) error {
	for code, meaning := range map[protocol.Code]error{
		protocol.NoRoom: provider.ErrNoRoom, protocol.Unhealthy: provider.ErrPool, protocol.Changed: provider.ErrChanged,
	} {
		if errors.Is(err, meaning) {
			return protocol.Errorf(code, "%v", err)
		}
	}
	return err
}

func (f *fakePlugin) Claim(_ context.Context, v protocol.Volume) (protocol.Claimed, error) {
	c, err := f.Fake.Claim(fromVolume(v))
	return protocol.Claimed(c), err
}

func (f *fakePlugin) Admit(ctx context.Context, vols []protocol.Volume) error {
	return coded(f.Fake.Admit(ctx, fromVolumes(vols)))
}

func (f *fakePlugin) Prepare(ctx context.Context, set protocol.Set, vols []protocol.Volume) (suspend []string, err error) {
	f.part, err = f.Fake.Prepare(ctx, provider.Set(set), fromVolumes(vols))
	for _, v := range vols {
		suspend = append(suspend, v.Dev)
		c := new(fsfreeze.Cell)
		c.Begin()
		c.Took(true)
		f.cells = append(f.cells, c)
	}
	return suspend, err
}

func (f *fakePlugin) Lock(ctx context.Context) error   { return coded(f.part.Lock(ctx)) }
func (f *fakePlugin) Unlock(ctx context.Context) error { return f.part.Unlock() }
func (f *fakePlugin) Verify(ctx context.Context) error { return coded(f.part.Verify()) }

func (f *fakePlugin) Commit(ctx context.Context) error {
	f.part.Watch(f.cells)
	return coded(f.part.Commit())
}

func (f *fakePlugin) Close() error {
	if f.part == nil {
		return nil
	}
	return f.part.Unlock()
}

func (f *fakePlugin) Finalize(ctx context.Context, x protocol.Final) ([]protocol.Snapshot, error) {
	snaps, err := f.part.Finalize(ctx, provider.Final(x))
	return toSnapshots(snaps), err
}

// Abort waits for the lock of a process that has just died, whose end this side of the relay sees a little later.
func (f *fakePlugin) Abort(ctx context.Context, set protocol.Set) error {
	for f.Storage.Locked() && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	snaps, err := f.Fake.Snapshots(ctx)
	errs := []error{err}
	for _, s := range snaps {
		if s.Set.ID == set.ID {
			errs = append(errs, f.Fake.Delete(ctx, []provider.Snapshot{s}))
		}
	}
	return errors.Join(errs...)
}

func (f *fakePlugin) Snapshots(ctx context.Context) ([]protocol.Snapshot, error) {
	snaps, err := f.Fake.Snapshots(ctx)
	return toSnapshots(snaps), err
}

func one(s protocol.Snapshot) provider.Snapshot {
	x, err := (&Provider{spec: Spec{Name: "fake"}}).fromSnapshot(s)
	if err != nil {
		panic(err)
	}
	return x
}

func (f *fakePlugin) Mark(ctx context.Context, s protocol.Snapshot) error {
	return f.Fake.Mark(ctx, []provider.Snapshot{one(s)})
}

func (f *fakePlugin) Delete(ctx context.Context, s protocol.Snapshot) error {
	return f.Fake.Delete(ctx, []provider.Snapshot{one(s)})
}

func (f *fakePlugin) Expose(ctx context.Context, s protocol.Snapshot) (string, error) {
	device, err := f.Fake.Expose(ctx, one(s))
	return "/dev" + device, err
}

func (f *fakePlugin) Hide(ctx context.Context, s protocol.Snapshot) error {
	return f.Fake.Hide(ctx, []provider.Snapshot{one(s)})
}

func (f *fakePlugin) Copy(ctx context.Context, s protocol.Snapshot) (protocol.Snapshot, error) {
	c, err := f.Fake.Copy(ctx, one(s))
	return toSnapshot(c), err
}

// bench is the fake storage as the suite sees it.
type bench struct {
	*providertest.Storage
	host *host
	t    testing.TB
	made uint32
}

func (b *bench) Provider() provider.Provider { return b.host.provider(b.t) }
func (*bench) LongestName(int) int           { return 100 }

func (b *bench) Origin(_ testing.TB, group int, name string) providertest.Origin {
	b.made++
	v := provider.Volume{
		Dev: dm.MkDev(253, b.made), Device: fmt.Sprint("dm", b.made), Name: fmt.Sprintf("vg%d/%s", group, name),
		Size: 1 << 20, MountPoint: "/srv/" + name, FSType: "ext4",
	}
	b.Add(v)
	return &volume{b.Storage, v}
}

func (b *bench) Content(t testing.TB, device string) providertest.Content {
	c, err := b.Exposed(strings.TrimPrefix(device, "/dev"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (b *bench) Write(t testing.TB, device, key, value string) {
	if err := b.WriteExposed(strings.TrimPrefix(device, "/dev"), key, value); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) Traces(testing.TB) string {
	return fmt.Sprintf("%+v", b.Snapshots()) + fmt.Sprint(b.Suspended(), b.Locked())
}

func (b *bench) Remove(t testing.TB, snapshot string) {
	if err := b.Storage.Remove(snapshot); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) Others(t testing.TB, o providertest.Origin) {
	b.Put(provider.Snapshot{Name: o.Volume().Name + ".other"}, providertest.Content{})
	b.Remove(t, o.Volume().Name+".other")
}

func (b *bench) Fill(testing.TB)  { b.Storage.Fill() }
func (b *bench) Break(testing.TB) { b.Storage.Break() }

type volume struct {
	s *providertest.Storage
	v provider.Volume
}

func (o *volume) Volume() provider.Volume                 { return o.v }
func (o *volume) Content(testing.TB) providertest.Content { return maps.Clone(o.s.Content(o.v.Dev)) }
func (o *volume) Freeze(testing.TB)                       {}
func (o *volume) Thaw(testing.TB)                         {}
func (o *volume) Suspend(testing.TB)                      { o.s.Suspend(o.v.Dev, true) }
func (o *volume) Resume(testing.TB)                       { o.s.Suspend(o.v.Dev, false) }
func (o *volume) Check(testing.TB)                        {}

func (o *volume) Write(t testing.TB, key, value string) {
	if err := o.s.Write(o.v.Dev, key, value); err != nil {
		t.Error(err)
	}
}

func (o *volume) Suspended(testing.TB) bool {
	is, _ := devices{o.s}.Suspended(o.v.Dev)
	return is
}

// The whole suite, over the protocol.
func TestSuite(t *testing.T) {
	providertest.Run(t, func(t *testing.T) providertest.Bench {
		s := providertest.NewStorage()
		return &bench{Storage: s, host: newHost(t, s), t: t}
	})
}
