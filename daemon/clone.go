package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/config/ownership"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/clone"
)

// cloning is a set that is being copied. The copy is a set of its own, with an id of its own, and comes into being when it
// is verified; then the set that it was copied from is deleted. A crash before goes on with the copy, a crash between the
// two leaves both sets, and the next start deletes the one.
type cloning struct {
	daemon   *Daemon
	record   clone.Record // this and the manifest are read from elsewhere, and stay as they are
	manifest api.Manifest // of the set that it will be
	done     atomic.Uint64
	cancel   context.CancelFunc
	ending   atomic.Bool   // the copy needs its source no more
	ended    chan struct{} // closed at the end; what follows is set before
	complete api.Manifest
	err      error
}

// total is the work in bytes: every byte is copied and read back.
func (c *cloning) total() uint64 { return 2 * c.record.Size() }

func (c *cloning) progress() api.Progress {
	return api.Progress{Done: c.done.Load(), Total: c.total()}
}

// cloneSet copies a set that has just been taken. If it is cancelled, nothing is kept; if the copy fails, the set is.
func (d *Daemon) cloneSet(ctx context.Context, m api.Manifest, how config.Clone, wait bool, tell func(string)) (*api.Manifest, error) {
	c, err := d.beginClone(m, how)
	if err != nil {
		return nil, d.notCloned(m.ID, err)
	}
	if !wait {
		out := c.shown()
		return &out, nil
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-c.ended:
			return c.result()
		case <-tick.C:
			if tell != nil {
				tell(fmt.Sprintf("clone %d%%", c.progress().Percent()))
			}
		case <-ctx.Done():
			if d.life.Err() != nil {
				return nil, api.Errorf(api.Failed, "fermatad is stopping; it goes on with clone %s when it starts again", c.record.ID)
			}
			c.cancel()
			<-c.ended
			return c.result()
		}
	}
}

func (c *cloning) result() (*api.Manifest, error) {
	if c.err != nil {
		return nil, classed(api.Failed, c.err)
	}
	return &c.complete, nil
}

// beginClone records that a set is to be copied, and starts.
func (d *Daemon) beginClone(m api.Manifest, how config.Clone) (*cloning, error) {
	_, snaps, err := d.find(m.ID)
	if err != nil {
		return nil, err
	}
	if how.Directory, err = d.o.Clones.Usable(how.Directory); err != nil {
		return nil, err
	}
	r := clone.Record{
		ID: newID(m.Created), Source: m.ID, Policy: m.Policy, Consistency: string(m.Consistency), Created: m.Created.UnixMicro(),
		Keep: how.Keep, Rate: uint64(how.Rate),
	}
	m.ID, m.CloneOf, m.Volumes = r.ID, m.ID, slices.Clone(m.Volumes)
	for i, s := range snaps {
		if p, err := d.provider(s.Provider); err != nil {
			return nil, err
		} else if partOfOrigin(p, s.Options) {
			return nil, api.Errorf(api.Invalid, "the snapshot %s of provider %s has no device of its own to copy", s.Name, s.Provider)
		}
		v := clone.Volume{
			File: fmt.Sprintf("%d.img", i), Provider: s.Provider, Snapshot: s.Name, Origin: s.Origin,
			MountPoint: s.MountPoint, FSType: s.FSType, Size: s.Size, Options: s.Options,
		}
		for j, o := range m.Volumes {
			if o.Name == s.Name {
				v.Size = o.Size // of the volume; a provider may speak of the space that a snapshot takes
				m.Volumes[j].Provider = clone.Name
				m.Volumes[j].Name = filepath.Join(how.Directory, r.ID, v.File)
			}
		}
		r.Volumes = append(r.Volumes, v)
	}
	if r.Manifest, err = json.Marshal(m); err != nil {
		return nil, err
	}
	if r, err = d.o.Clones.Create(how.Directory, r); err != nil {
		return nil, err
	}
	return d.startClone(r, m), nil
}

// startClone copies in the background, from wherever the copy has got to.
func (d *Daemon) startClone(r clone.Record, m api.Manifest) *cloning {
	ctx, cancel := context.WithCancel(d.life)
	c := &cloning{daemon: d, record: r, manifest: m, cancel: cancel, ended: make(chan struct{})}
	d.mu.Lock()
	d.clones = append(d.clones, c)
	d.mu.Unlock()
	d.background.Go(func() {
		defer close(c.ended)
		defer cancel()
		if err := c.run(ctx); err != nil {
			c.err = c.undo(ctx, err)
		}
		d.mu.Lock()
		d.clones = slices.DeleteFunc(d.clones, func(x *cloning) bool { return x == c })
		d.mu.Unlock()
	})
	return c
}

func (c *cloning) run(ctx context.Context) error {
	devices, err := c.expose(ctx)
	if err != nil {
		return err
	}
	var before uint64
	for _, work := range []func(clone.Copy, context.Context) error{clone.Copy.Run, clone.Copy.Verify} {
		for i, v := range c.record.Volumes {
			begin := before
			x := clone.Copy{Device: devices[i], Image: c.record.Image(i), Size: v.Size, Rate: c.record.Rate,
				Progress: func(done uint64) { c.done.Store(begin + done) }}
			if err := work(x, ctx); err != nil {
				return err
			}
			before += v.Size
		}
	}
	return c.finish(context.WithoutCancel(ctx))
}

// expose makes the snapshots readable. It waits its turn, for it runs LVM.
func (c *cloning) expose(ctx context.Context) (devices []string, err error) {
	release, err := c.daemon.turn.take(ctx, false)
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel := c.daemon.within(ctx, c.daemon.changeLimit)
	defer cancel()
	for _, v := range c.record.Volumes {
		p, err := c.daemon.provider(v.Provider)
		if err != nil {
			return nil, err
		}
		device, err := c.daemon.expose(ctx, p, c.source(v))
		if err != nil {
			return nil, err
		}
		devices = append(devices, device)
	}
	return devices, nil
}

// finish makes the copy a set, and deletes the set that it was made from. Before the record is saved a crash goes on with
// the copy, after it the copy counts.
func (c *cloning) finish(ctx context.Context) error {
	d := c.daemon
	release, err := d.turn.take(ctx, false)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := d.within(ctx, d.changeLimit)
	defer cancel()
	c.ending.Store(true)
	record := c.record
	c.complete = c.manifest
	record.State, c.complete.State = clone.Complete, api.Complete
	if err := d.o.Clones.Save(record); err != nil {
		return err
	}
	err = errors.Join(c.hide(ctx), d.store.Save(c.complete), d.refresh(ctx))
	if !c.record.Keep && d.expires(c.record.Source) {
		err = errors.Join(err, d.deleteSet(ctx, c.record.Source))
	}
	if err != nil { // the copy is good all the same
		d.o.Log.Warn("the clone is finished, but", "set", c.record.ID, "error", err)
		c.complete.Reasons = append(c.complete.Reasons, fmt.Sprintf("after the clone was finished: %v", err))
	}
	d.o.Log.Info("set cloned", "set", c.record.ID, "from", c.record.Source)
	return nil
}

// hide takes the devices of the snapshots away again, unless somebody has mounted them meanwhile: umount does it then.
func (c *cloning) hide(ctx context.Context) error {
	present, err := c.daemon.mountsOf(c.record.Source)
	if err != nil || len(present) > 0 {
		return err
	}
	var errs []error
	for _, v := range c.record.Volumes {
		p, err := c.daemon.provider(v.Provider)
		if err == nil {
			err = c.daemon.hide(ctx, p, []provider.Snapshot{c.source(v)})
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// source is the snapshot that a volume of the clone is a copy of.
func (c *cloning) source(v clone.Volume) provider.Snapshot {
	return provider.Snapshot{
		Provider: v.Provider, Name: v.Snapshot, Set: provider.Set{ID: c.record.Source}, Origin: v.Origin, MountPoint: v.MountPoint,
		FSType: v.FSType, Size: v.Size,
	}
}

// undo ends a copy that failed or was cancelled: nothing of it is kept. The set that was copied goes too if somebody has
// cancelled, unless it was to be kept; but after a failure it is the only one that shows its instant, so it stays, as a set
// like any other. A daemon that stops keeps everything and goes on when it starts again.
func (c *cloning) undo(ctx context.Context, cause error) error {
	d, source := c.daemon, c.record.Source
	stopping := d.life.Err() != nil
	cancelled := ctx.Err() != nil && !stopping
	release, err := d.turn.take(context.WithoutCancel(ctx), false)
	if err != nil {
		return errors.Join(cause, err)
	}
	defer release()
	ctx, cancel := d.within(ctx, d.changeLimit)
	defer cancel()
	if stopping {
		return errors.Join(cause, c.hide(ctx))
	}
	c.ending.Store(true)
	if cancelled {
		cause = api.Errorf(api.Cancelled, "the clone of set %s was cancelled and undone", source)
	} else {
		cause = d.notCloned(source, cause)
	}
	d.o.Log.Error("no clone was made", "set", c.record.ID, "from", source, "error", cause)
	errs := []error{cause, c.hide(ctx), d.o.Clones.Remove(c.record), d.store.Remove(c.record.ID)}
	if cancelled && !c.record.Keep && d.expires(source) {
		errs = append(errs, d.deleteSet(ctx, source))
	}
	return errors.Join(errs...)
}

// notCloned is the failure of a copy, which the set that is left tells of as well.
func (d *Daemon) notCloned(source string, cause error) error {
	d.mu.Lock()
	i := slices.IndexFunc(d.contents.Sets, func(m api.Manifest) bool { return m.ID == source })
	var m api.Manifest
	if i >= 0 {
		m = d.contents.Sets[i]
		m.Reasons = append(slices.Clip(m.Reasons), fmt.Sprintf("it was to be cloned, and was not: %v", cause))
		d.contents.Sets = slices.Clone(d.contents.Sets) // somebody may be reading it
		d.contents.Sets[i] = m
	}
	d.mu.Unlock()
	if i < 0 {
		return fmt.Errorf("cannot clone set %s, which is gone: %w", source, cause)
	}
	err := classed(api.Failed, fmt.Errorf("cannot clone set %s, which is kept (to remove it: fermata snapshot delete %s): %w", source, source, cause))
	if m.State != api.Complete { // what is wrong with it is found anew each time
		return err
	}
	return errors.Join(err, d.store.Save(m))
}

// resumeClones goes on with the copies that a crash or a stop has interrupted.
func (d *Daemon) resumeClones(ctx context.Context) error {
	if d.o.Clones == nil {
		return nil
	}
	records, _ := d.o.Clones.Load() // what it could not read was told when the snapshots were listed
	var errs []error
	for _, r := range records {
		switch exists := d.exists(r.Source); {
		case r.State == clone.Complete && !r.Keep && exists:
			d.recoveredf("clone %s: deleting set %s, which it is a copy of", r.ID, r.Source)
			errs = append(errs, d.DeleteSet(ctx, r.Source))
		case r.State == clone.Copying && exists:
			var m api.Manifest
			if err := json.Unmarshal(r.Manifest, &m); err != nil {
				errs = append(errs, fmt.Errorf("cannot go on with clone %s: %w", r.ID, err))
				continue
			}
			d.recoveredf("clone %s: going on with the copy of set %s", r.ID, r.Source)
			d.startClone(r, m)
		case r.State == clone.Copying && !d.allListed(r): // its source may be there
			errs = append(errs, fmt.Errorf("cannot go on with clone %s now: a provider of set %s cannot list its snapshots", r.ID, r.Source))
		case r.State == clone.Copying:
			d.recoveredf("clone %s: removed, because set %s is gone", r.ID, r.Source)
			errs = append(errs, d.o.Clones.Remove(r))
		}
	}
	return errors.Join(errs...)
}

// allListed reports whether all providers of a clone's source have listed their snapshots.
func (d *Daemon) allListed(r clone.Record) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !slices.ContainsFunc(r.Volumes, func(v clone.Volume) bool { _, ok := d.listed[v.Provider]; return !ok })
}

// clonings are the copies under way, oldest first.
func (d *Daemon) clonings() []*cloning {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.clones)
}

// shown is the set as a list shows it while it is copied.
func (c *cloning) shown() api.Manifest {
	m, p := c.manifest, c.progress()
	m.State, m.Progress = api.Cloning, &p
	return m
}

// cloningTo finds the copy that will be the set of an id; cloningFrom one that is made from it.
func (d *Daemon) cloningTo(id string) *cloning {
	return d.cloningWhere(func(r clone.Record) bool { return r.ID == id })
}

func (d *Daemon) cloningFrom(id string) *cloning {
	return d.cloningWhere(func(r clone.Record) bool { return r.Source == id })
}

func (d *Daemon) cloningWhere(is func(clone.Record) bool) *cloning {
	for _, c := range d.clonings() {
		if is(c.record) {
			return c
		}
	}
	return nil
}

// reads reports whether a set's snapshots are being read to copy them.
func (d *Daemon) reads(id string) bool {
	c := d.cloningFrom(id)
	return c != nil && !c.ending.Load()
}

// Busy reports whether something is under way that no job speaks of.
func (d *Daemon) Busy() bool {
	d.mu.Lock()
	left := len(d.uses)
	d.mu.Unlock()
	return len(d.clonings()) > 0 || left > 0 || d.keeper != nil && d.keeper.Acting()
}

// Wait until what is under way in the background has let go, after the context of Start has ended.
func (d *Daemon) Wait() { d.background.Wait() }

// CloneStore is where a configuration keeps clones: an index, and the directories that policies name.
func CloneStore(c *config.Config) clone.Store {
	s := clone.Store{Index: filepath.Join(c.Daemon.StateDirectory, "clones"), Trust: ownership.Directory}
	for _, p := range c.Policies {
		if p.Method == config.MethodClone {
			s.Known = append(s.Known, p.Clone.Directory)
		}
	}
	slices.SortFunc(s.Known, strings.Compare)
	s.Known = slices.Compact(s.Known)
	return s
}
