package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm/provider/plugin/pluginmain"
	"github.com/fermata-project/fermata/dm/provider/plugin/protocol"
	"github.com/fermata-project/fermata/fsfreeze"
)

// array is the plug-in. Between Prepare and Finalize it belongs to one set.
type array struct {
	pluginmain.Nothing
	store   string
	kind    string
	records pluginmain.Records
	members []*member
	lock    *os.File
}

// member is a volume of the set, with everything open that Commit needs.
type member struct {
	snap          protocol.Snapshot
	origin, image *os.File
}

func newArray(store, kind string) *array {
	store = filepath.Clean(store)
	return &array{store: store, kind: kind, records: pluginmain.Records{Dir: filepath.Join(store, "snapshots")}}
}

func (a *array) Hello() protocol.Greeting {
	return protocol.Greeting{Name: "array", Kind: a.kind, Version: "1", Capabilities: []protocol.Capability{
		protocol.CanCopy, protocol.CanPools, protocol.NeedsSuspend, protocol.MayUnhold,
	}}
}

func (a *array) volume(name string) string { return filepath.Join(a.store, "volumes", name) }
func (a *array) image(name string) string  { return filepath.Join(a.records.Dir, name+".img") }

// maxName leaves room in a file's name for the set's id and our suffixes.
const maxName = 200

// Claim takes what lies on a file of the array.
func (a *array) Claim(_ context.Context, v protocol.Volume) (protocol.Claimed, error) {
	file, err := backing(v)
	if err != nil {
		return protocol.Claimed{}, err
	}
	name, ok := strings.CutPrefix(file, a.volume("")+"/")
	if !ok || strings.Contains(name, "/") {
		return protocol.Claimed{}, errors.New("not a volume of the array")
	}
	if len(name) > maxName {
		return protocol.Claimed{}, fmt.Errorf("its name is longer than %d bytes", maxName)
	}
	// What is device-mapper's is suspended. A bare loop device is held by its frozen filesystem, or by nothing.
	return protocol.Claimed{Name: name, Writes: true, Unheld: v.DMName == "" && !fsfreeze.Freezable(v.FSType)}, nil
}

// Admit wants room for whole copies, for not every filesystem can share blocks.
func (a *array) Admit(_ context.Context, vols []protocol.Volume) error {
	if err := a.healthy(); err != nil {
		return err
	}
	var need uint64
	for _, v := range vols {
		var s unix.Stat_t
		if err := unix.Stat(a.volume(v.Name), &s); err != nil {
			return err
		}
		need += uint64(s.Blocks) * 512
	}
	pool, err := a.pool()
	if err != nil {
		return err
	}
	if free := pool.Size - pool.Used; free < need {
		return protocol.Errorf(protocol.NoRoom, "the array has %d MiB free, and the copies take up to %d MiB (make room in %s)", free>>20, need>>20, a.store)
	}
	return nil
}

// healthy is nil unless the array was broken, which a file of that name does.
func (a *array) healthy() error {
	if _, err := os.Stat(filepath.Join(a.store, "broken")); err == nil {
		return protocol.Errorf(protocol.Unhealthy, "the array has lost writes (remove %s/broken)", a.store)
	}
	return nil
}

func (a *array) pool() (protocol.Pool, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(a.store, &s); err != nil {
		return protocol.Pool{}, err
	}
	size := s.Blocks * uint64(s.Bsize)
	return protocol.Pool{Name: a.store, Mode: "rw", Size: size, Used: size - s.Bavail*uint64(s.Bsize)}, nil
}

func (a *array) Pools(context.Context) ([]protocol.Pool, error) {
	p, err := a.pool()
	return []protocol.Pool{p}, err
}

// Prepare writes down what will exist, makes the files, and opens them.
func (a *array) Prepare(_ context.Context, set protocol.Set, vols []protocol.Volume) (suspend []string, err error) {
	if err := os.MkdirAll(a.records.Dir, 0o700); err != nil {
		return nil, err
	}
	for _, v := range vols {
		m := &member{snap: protocol.Snapshot{
			Name: v.Name + "." + set.ID, Set: set, Origin: v.Name, Armed: true, MountPoint: v.MountPoint, FSType: v.FSType, Size: v.Size,
		}}
		a.members = append(a.members, m)
		if err := a.records.Put(m.snap.Name, pluginmain.Record{Snapshot: m.snap}); err != nil {
			return nil, err
		}
		if m.origin, err = os.Open(a.volume(v.Name)); err != nil {
			return nil, err
		}
		if m.image, err = os.OpenFile(a.image(m.snap.Name), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
			return nil, err
		}
		if v.DMName != "" {
			suspend = append(suspend, v.Dev)
		}
	}
	return suspend, nil
}

// Lock keeps other sets from the array, and looks whether what was armed is still there.
func (a *array) Lock(ctx context.Context) error {
	f, err := os.OpenFile(filepath.Join(a.store, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	for unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		if ctx.Err() != nil {
			return errors.Join(errors.New("another set has the array's lock"), f.Close())
		}
		time.Sleep(10 * time.Millisecond)
	}
	a.lock = f
	for _, m := range a.members {
		_, err := a.records.Get(m.snap.Name)
		_, err2 := os.Stat(a.image(m.snap.Name))
		if err := errors.Join(err, err2); err != nil {
			return protocol.Errorf(protocol.Changed, "%v", err)
		}
	}
	return a.healthy()
}

func (a *array) Unlock(context.Context) error {
	if a.lock == nil {
		return nil
	}
	err := a.lock.Close()
	a.lock = nil
	return err
}

// Commit copies every file into its image. Nothing is opened or looked up.
func (a *array) Commit(context.Context) error {
	for _, m := range a.members {
		if err := clone(m.image, m.origin); err != nil {
			return fmt.Errorf("cannot copy %s: %w", m.snap.Origin, err)
		}
	}
	return nil
}

func (a *array) Verify(context.Context) error { return a.healthy() }

func (a *array) Finalize(_ context.Context, f protocol.Final) ([]protocol.Snapshot, error) {
	var out []protocol.Snapshot
	for _, m := range a.members {
		if err := m.image.Sync(); err != nil {
			return nil, err
		}
	}
	for _, m := range a.members {
		m.snap.Armed, m.snap.Consistency, m.snap.Created = false, f.Consistency, f.Created
		if err := a.records.Put(m.snap.Name, pluginmain.Record{Snapshot: m.snap}); err != nil {
			return nil, err
		}
		out = append(out, m.snap)
	}
	return out, nil
}

// Close lets go of the lock; the process's end would, too.
func (a *array) Close() error { return a.Unlock(context.Background()) }

func (a *array) Abort(ctx context.Context, set protocol.Set) error {
	all, err := a.Snapshots(ctx)
	errs := []error{err}
	for _, s := range all {
		if s.Set.ID == set.ID {
			errs = append(errs, a.Delete(ctx, s))
		}
	}
	return errors.Join(errs...)
}

func (a *array) Snapshots(context.Context) ([]protocol.Snapshot, error) {
	all, err := a.records.All()
	var out []protocol.Snapshot
	for _, r := range all {
		if _, err := os.Stat(a.image(r.Snapshot.Name)); err != nil && !r.Snapshot.Armed {
			r.Snapshot.Invalid = "its image is missing"
		}
		out = append(out, r.Snapshot)
	}
	return out, err
}

func (a *array) Mark(_ context.Context, s protocol.Snapshot) error {
	r, err := a.records.Get(s.Name)
	if err != nil {
		return err
	}
	r.Snapshot.Armed = true
	return a.records.Put(s.Name, r)
}

func (a *array) Delete(ctx context.Context, s protocol.Snapshot) error {
	if err := a.Hide(ctx, s); err != nil {
		return err
	}
	if err := os.Remove(a.image(s.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return a.records.Remove(s.Name)
}

func (a *array) Expose(_ context.Context, s protocol.Snapshot) (string, error) {
	if _, err := a.records.Get(s.Name); err != nil {
		return "", fmt.Errorf("no such snapshot: %w", err)
	}
	return attach(a.image(s.Name), !s.Scratch)
}

func (a *array) Hide(_ context.Context, s protocol.Snapshot) error { return detach(a.image(s.Name)) }

// scratch ends the name of a throw-away copy.
const scratch = ".scratch"

func (a *array) Copy(_ context.Context, s protocol.Snapshot) (c protocol.Snapshot, err error) {
	c = s
	c.Name, c.Scratch = s.Name+scratch, true
	from, err := os.Open(a.image(s.Name))
	if err != nil {
		return c, err
	}
	defer from.Close()
	if err := a.records.Put(c.Name, pluginmain.Record{Snapshot: c}); err != nil {
		return c, err
	}
	to, err := os.OpenFile(a.image(c.Name), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return c, err
	}
	return c, errors.Join(clone(to, from), to.Sync(), to.Close())
}
