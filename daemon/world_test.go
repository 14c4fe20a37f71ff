package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/catalog"
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/providertest"
	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/hooks"
)

// world is what a daemon under test runs on. Everything that the daemon does to it goes through via, so that a test can
// note it, let it fail, or stop the world there and look what a new daemon makes of it.
//
// Three filesystems are mounted: a and b on volumes of provider alpha, and img on one of provider beta, which lies on a
// loop device whose file is on a. A volume raw of beta is not mounted. Two writers take part: web (front-end) and db
// (back-end), which takes all phases beside a set. One finished set exists.
type world struct {
	t       *testing.T
	dir     string
	systems map[uint64]*system
	storage map[string]*providertest.Storage // by provider
	policy  config.Policy
	writing []config.Writer
	size    uint64 // of each volume, in bytes
	free    uint64 // bytes, everywhere

	files    map[string][]byte // of a still world, by name
	stopping sync.Mutex        // held while a test looks at the world in a call

	mu        sync.Mutex
	tap       func(call string, after bool) error
	calls     []string
	count     map[string]int
	step      string            // of the transaction
	steps     map[string]string // call → step
	guard     *fakeGuard
	open      map[string]int // what is held of the system: handles, memory locks
	writers   map[string]*fakeWriter
	mounted   []fsfreeze.Mount // of snapshots
	processes map[int]uint64   // when each began
	wrong     []string         // rules of the kernel, or of the contracts, that were broken
}

// system is a mounted filesystem.
type system struct {
	point  string
	dev    uint64
	frozen string // by whom: "", "ours" or "theirs"
	writes dm.Writes
}

const oldSet = "20250101T000000_0000"

var devA, devB, devImg, devRaw = unix.Mkdev(253, 1), unix.Mkdev(253, 2), unix.Mkdev(253, 3), unix.Mkdev(253, 4)

func newWorld(t *testing.T) *world {
	w := &world{t: t, dir: t.TempDir(), systems: map[uint64]*system{}, storage: map[string]*providertest.Storage{}, size: 1 << 20, free: 1 << 40}
	w.reset()
	for name, dev := range map[string]uint64{"a": devA, "b": devB, "img": devImg} {
		w.systems[dev] = &system{point: filepath.Join(w.dir, "srv", name), dev: dev}
	}
	for _, s := range w.systems {
		if err := os.MkdirAll(s.point, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for label, devs := range map[string][]uint64{"alpha": {devA, devB}, "beta": {devImg, devRaw}} {
		w.storage[label] = providertest.NewStorage()
		for _, dev := range devs {
			w.storage[label].Add(provider.Volume{Dev: dm.Dev(dev), Name: label + "/" + volumeNames[dev]})
		}
	}
	w.storage["alpha"].Put(provider.Snapshot{
		Provider: "alpha", Set: provider.Set{ID: oldSet, Members: 1}, Name: "alpha/a." + oldSet, Origin: "alpha/a", Consistency: "filesystem",
	}, providertest.Content{})
	store := catalog.Store{Dir: filepath.Join(w.dir, "state", "sets")}
	if err := store.Save(api.Manifest{Version: 1, ID: oldSet, Labels: map[string]string{"is": "old"}}); err != nil {
		t.Fatal(err)
	}
	w.policy = config.Policy{
		Name: "p", Volumes: []string{w.path("a"), w.path("b"), w.path("img"), rawPath}, Writers: []string{"web", "db"},
		Consistency: config.ConsistencyCrash, OnFailure: config.OnFailureAbort, // raw is not frozen
		Limits: config.Limits{Freeze: 10 * time.Second, Writers: 10 * time.Second, Prepare: time.Minute},
	}
	w.writing = []config.Writer{
		{Name: "web", Level: config.LevelFrontEnd, Required: true, OnFailure: config.OnFailureAbort},
		{Name: "db", Level: config.LevelBackEnd, Required: true, OnFailure: config.OnFailureAbort, Recover: true, Verify: true, Report: true},
	}
	return w
}

var volumeNames = map[uint64]string{devA: "a", devB: "b", devImg: "img", devRaw: "raw"}

func (w *world) path(name string) string { return filepath.Join(w.dir, "srv", name) }

// reset forgets what only the dead daemon knew.
func (w *world) reset() {
	w.calls, w.count, w.steps, w.open, w.writers = nil, map[string]int{}, map[string]string{}, map[string]int{}, map[string]*fakeWriter{}
}

// after is the world after the daemon's death, for a new daemon to start on.
func (w *world) after() *world {
	s := w.still()
	return s.live(s.files)
}

// still is the world as it is now, with its files: nothing in it changes any more.
func (w *world) still() *world {
	c := w.copy()
	c.files = map[string][]byte{}
	for _, pattern := range []string{"journal/*", "notes/*", "state/sets/*", "mounts/*"} {
		found, err := filepath.Glob(filepath.Join(w.dir, pattern))
		if err != nil {
			w.t.Fatal(err)
		}
		for _, f := range found {
			b, err := os.ReadFile(f)
			if err != nil {
				w.t.Fatal(err)
			}
			c.files[strings.TrimPrefix(f, w.dir)] = b
		}
	}
	return c
}

func (w *world) copy() *world {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := &world{t: w.t, dir: w.dir, systems: map[uint64]*system{}, storage: map[string]*providertest.Storage{}, policy: w.policy, writing: w.writing, size: w.size, free: w.free, mounted: slices.Clone(w.mounted), processes: maps.Clone(w.processes)}
	c.reset()
	for dev, s := range w.systems {
		x := *s
		c.systems[dev] = &x
	}
	for label, s := range w.storage {
		c.storage[label] = s.Clone()
	}
	return c
}

// live makes a still world live, with the files that are given. It can be done more than once.
func (w *world) live(files map[string][]byte) *world {
	c := w.copy()
	c.dir = w.t.TempDir()
	for _, s := range c.systems {
		s.point = c.path(filepath.Base(s.point))
		if err := os.MkdirAll(s.point, 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
	for name, b := range files {
		if err := os.MkdirAll(filepath.Dir(c.dir+name), 0o700); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(c.dir+name, b, 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	c.policy.Volumes = nil
	for _, v := range w.policy.Volumes {
		c.policy.Volumes = append(c.policy.Volumes, strings.Replace(v, w.dir, c.dir, 1))
	}
	return c
}

// journalFile is the name of a still world's journal, and its text; nil if there is none.
func (w *world) journalFile() (name string, text []byte) {
	for name, text := range w.files {
		if strings.HasSuffix(name, ".journal") {
			return name, text
		}
	}
	return "", nil
}

// releases are calls that have let go even if they report an error, as close(2) does.
var releases = map[string]bool{
	"close": true, "close-counter": true, "unlock-memory": true, "guard-close": true, "Unlock": true,
	"writer-close": true,
}

// via lets one call have its effect. Its name, with its object, gets the number of its occurrence: "freeze a#2".
func (w *world) via(call, object string, effect func() error) error {
	w.mu.Lock()
	key := strings.TrimSuffix(call+" "+object, " ")
	w.count[key]++
	key = fmt.Sprintf("%s#%d", key, w.count[key])
	w.calls = append(w.calls, key)
	w.steps[key] = w.step
	tap := w.tap
	w.open["calls"]++
	w.mu.Unlock()
	defer w.held("calls", -1)
	var refused error
	if tap != nil {
		refused = tap(key, false)
	}
	if refused != nil && !releases[call] {
		return refused
	}
	if err := effect(); err != nil {
		return err
	}
	if tap != nil && refused == nil {
		return tap(key, true)
	}
	return refused
}

// held counts what the daemon holds of the system's.
func (w *world) held(what string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[what] += n
}

func (w *world) holds(what string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open[what]
}

func (w *world) holdsAny() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.open {
		if n != 0 {
			return true
		}
	}
	return false
}

func (w *world) violated(format string, a ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = append(w.wrong, fmt.Sprintf(format, a...))
}

// frozen lists what is frozen by whom.
func (w *world) frozen(by string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, s := range w.systems {
		if s.frozen == by {
			out = append(out, filepath.Base(s.point))
		}
	}
	slices.Sort(out)
	return out
}

func (w *world) freeze(dev uint64, by string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.systems[dev].frozen = by
}

func (w *world) suspended() []dm.Dev {
	var out []dm.Dev
	for _, label := range slices.Sorted(maps.Keys(w.storage)) {
		out = append(out, w.storage[label].Suspended()...)
	}
	return out
}

// snapshots that exist, without those of the old set.
func (w *world) snapshots() []provider.Snapshot {
	var out []provider.Snapshot
	for _, label := range slices.Sorted(maps.Keys(w.storage)) {
		for _, s := range w.storage[label].Snapshots() {
			if s.Set.ID != oldSet {
				out = append(out, s)
			}
		}
	}
	return out
}

// daemon is one that runs on this world.
func (w *world) daemon() *Daemon {
	c := &config.Config{Policies: map[string]config.Policy{"p": w.policy}, Writers: map[string]config.Writer{}}
	c.Daemon = config.Daemon{
		StateDirectory: filepath.Join(w.dir, "state"), MountDirectory: filepath.Join(w.dir, "mnt"),
		Limits:   config.DaemonLimits{Limits: w.policy.Limits, Sets: 1000},
		Preflush: config.Preflush{Rounds: 2, Until: time.Hour},
	}
	for _, x := range w.writing {
		c.Writers[x.Name] = x
	}
	var providers []provider.Provider
	for _, label := range []string{"alpha", "beta"} {
		f := providertest.NewFake(label, w.storage[label])
		f.Via = func(call string, effect func() error) error { return w.via(call, label, effect) }
		providers = append(providers, f)
	}
	d := New(Options{
		Version: "test", Config: c, Host: &fakeHost{w}, Providers: providers, RunDir: w.dir, LinkDir: filepath.Join(w.dir, "dev", "fermata"),
		NewWriter: w.newWriter, Log: slog.New(slog.DiscardHandler),
	})
	d.letGo, d.dying = 0, 0 // nobody lingers
	return d
}

// take takes a set by the policy.
func (w *world) take(ctx context.Context, d *Daemon) (*api.Manifest, error) {
	return d.CreateSet(ctx, api.Request{Policy: "p"}, func(step string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.step = step
	})
}

// clean checks that nothing is held, and nothing broken.
func (w *world) clean(t *testing.T, d *Daemon) {
	t.Helper()
	if f := w.frozen("ours"); len(f) > 0 {
		t.Errorf("still frozen: %v", f)
	}
	if s := w.suspended(); len(s) > 0 {
		t.Errorf("still suspended: %v", s)
	}
	for label, s := range w.storage {
		if s.Locked() {
			t.Errorf("%s is still locked", label)
		}
		if open := s.Unsealed(); len(open) > 0 {
			t.Errorf("not sealed: %v", open)
		}
	}
	if _, text := w.still().journalFile(); text != nil {
		t.Errorf("the journal is still there:\n%s", text)
	}
	for end := time.Now().Add(10 * time.Second); len(d.turn.token) != 1; time.Sleep(time.Millisecond) { // tidyLater may have it
		if time.Now().After(end) {
			t.Error("the turn was not given back")
			break
		}
	}
	if s := d.Status(); s.Running != "" {
		t.Errorf("still running: %s", s.Running)
	}
	if w.holds("calls") > 0 { // nobody waits for one that was cancelled; it lets go when it returns
		for end := time.Now().Add(10 * time.Second); w.holdsAny() && time.Now().Before(end); time.Sleep(time.Millisecond) {
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.guard != nil {
		t.Error("the guard is still armed")
	}
	for what, n := range w.open {
		if n != 0 {
			t.Errorf("%d %s still held", n, what)
		}
	}
	for _, x := range w.writers {
		if x.holding.Load() {
			t.Errorf("writer %s still holds", x.spec.Name)
		}
	}
	for _, what := range w.wrong {
		t.Error(what)
	}
}

// nothing checks that a set which was not taken left no trace, and that everybody was told.
func (w *world) nothing(t *testing.T, d *Daemon) {
	t.Helper()
	w.clean(t, d)
	if s := w.snapshots(); len(s) > 0 {
		t.Errorf("left behind: %+v", s)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, x := range w.writers {
		prepared, aborted := slices.Contains(x.told, hooks.PhasePrepare), 0
		for _, p := range x.told {
			if p == hooks.PhaseAbort {
				aborted++
			}
			if p == hooks.PhasePost {
				t.Errorf("writer %s was told that the set is finished: %v", name, x.told)
			}
		}
		order := []hooks.Phase{hooks.PhasePrepare, hooks.PhaseFreeze, hooks.PhaseThaw, hooks.PhaseRecover, hooks.PhaseAbort}
		if !slices.IsSortedFunc(x.told, func(a, b hooks.Phase) int { return slices.Index(order, a) - slices.Index(order, b) }) ||
			slices.Contains(x.told, hooks.PhaseFreeze) != slices.Contains(x.told, hooks.PhaseThaw) {
			t.Errorf("writer %s was told %v", name, x.told)
		}
		if prepared && aborted != 1 || !prepared && aborted != 0 {
			t.Errorf("writer %s was told abort %d times: %v", name, aborted, x.told)
		}
	}
}

// everything checks a set that was taken: complete, with all its snapshots, and all writers told so.
func (w *world) everything(t *testing.T, d *Daemon, m *api.Manifest) {
	t.Helper()
	w.clean(t, d)
	snaps := w.snapshots()
	if m == nil || m.State != api.Complete || len(m.Volumes) != 4 || len(snaps) != 4 {
		t.Fatalf("got %+v, with %+v", m, snaps)
	}
	for _, s := range snaps {
		if s.Armed || s.Set.ID != m.ID || s.Set.Members != 4 || s.Created != m.Created.UnixMicro() || s.Consistency != string(m.Consistency) {
			t.Errorf("got %+v", s)
		}
	}
}

var errInjected = errors.New("injected")

// instant is the i-th second after a fixed one, in a time zone of its own.
func (*world) instant(i int) time.Time {
	zone := time.FixedZone("east", 5*3600)
	return time.Date(2026, 11, 20, 16, 46, 53+i, 0, zone)
}
