// Package daemon takes snapshot sets: it coordinates requesters, writers, filesystems and providers, none of which knows
// the others.
//
// A set is a transaction (transaction.go): a list of steps, each with its do and its undo, announced in the journal
// before it happens. Inside it lies the freeze window (window.go), the only part where somebody waits for us. Everything
// that the window needs is prepared before it, everything that may be slow happens before or after. What is claimed of a
// set afterwards is decided from the evidence (verify.go).
//
// The daemon asks the operating system through Host and issues no system call of device-mapper or freeze itself.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/catalog"
	"github.com/fermata-project/fermata/daemon/pools"
	"github.com/fermata-project/fermata/daemon/pools/acts"
	"github.com/fermata-project/fermata/daemon/writers"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/clone"
	"github.com/fermata-project/fermata/hooks"
)

// Options are what a daemon is made of.
type Options struct {
	Version   string
	Config    *config.Config
	Host      Host
	Providers []provider.Provider // in the order of choice
	Unusable  []api.Provider      // plug-ins that could not be started, and why
	NewWriter func(config.Writer) (hooks.Writer, error)
	Registry  *writers.Registry // of the services that are writers; nil: none can be
	// ReleaseUnits thaws the units that a writer of type systemd-unit has left frozen, and says which; nil: nobody freezes any.
	ReleaseUnits func(context.Context) ([]string, error)
	// Alone: no other daemon lives, so that what a journal speaks of is a dead one's, even if that still has it open: see Alone.
	Alone    bool
	RunDir   string               // /run/fermata: journal, and what is mounted
	Machine  string               // this one, as in provider.Host
	LinkDir  string               // of links to the devices of snapshots; empty: /dev/fermata
	Clones   *clone.Provider      // one of Providers; nil: no clones are made
	Watch    *pools.Watch         // of pools; nil: none
	Groups   func() []pools.Group // of volume groups, what was seen last; nil: nothing
	Ended    func(Ended)          // told of each set's end; nil: nobody
	Released func(int)            // told how many filesystems and devices of a dead daemon's set the guard had to release; nil: nobody
	// Acted is told of what happens to pools and is done about them, in order; it may take its time. nil: nobody.
	Acted   func(context.Context, acts.Report)
	Changed func() // told when sets change for another reason than a request; nil: nobody
	Log     *slog.Logger
}

// Daemon takes sets for its requesters: it implements api.Service.
type Daemon struct {
	o       Options
	store   manifests
	started time.Time
	turn    turn
	life    context.Context // of Start: what runs in the background ends with it
	calls   calls
	frozen  atomic.Pointer[Frozen] // nil: nothing is
	keeper  *acts.Keeper           // nil: nobody watches the pools

	background sync.WaitGroup

	changeLimit, undoLimit, letGo, dying time.Duration

	mu           sync.Mutex // guards what follows; never held across anything slow
	contents     catalog.Contents
	listed       map[string][]provider.Snapshot // by provider, when it could last be asked
	unlisted     error                          // why not all of them could be asked the last time
	unheard      map[string]error               // the same, by provider
	undone       map[string]error               // sets that could not be undone, and why
	running      *transaction
	recovered    []string
	problems     []string
	history      map[string]past           // of writers, by name
	runs         map[string]*api.PolicyRun // the last of each policy
	clones       []*cloning
	autoextended map[string]autoextended // by pool
	written      map[string]uint64       // bytes to volumes before their last set, by volumeKey
	asides       map[string]hooks.Phase  // what is done beside finished sets, by set
	tidying      bool                    // tidyLater is at work
	uses         map[string]leftUse      // of sets, that are not undone yet
	puttingAway  bool                    // putAwayLater is at work
}

// New makes a daemon; Start makes it ready.
func New(o Options) *Daemon {
	if o.LinkDir == "" {
		o.LinkDir = defaultLinkDir
	}
	d := &Daemon{
		o:       o,
		store:   manifests{store: catalog.Store{Dir: filepath.Join(o.Config.Daemon.StateDirectory, "sets")}},
		started: time.Now(),
		turn:    newTurn(),
		listed:  map[string][]provider.Snapshot{},
		undone:  map[string]error{},
		asides:  map[string]hooks.Phase{},
		history: map[string]past{},
		runs:    map[string]*api.PolicyRun{},
		uses:    map[string]leftUse{},
		life:    context.Background(),

		changeLimit: changeLimit, undoLimit: undoLimit, letGo: letGo, dying: dying,
		written: map[string]uint64{}, autoextended: map[string]autoextended{},
	}
	if o.Watch != nil {
		d.keeper = acts.New(o.Watch, d.act, o.Config.Daemon.Pools.Acts, d.acted, d.runHook, o.Log)
	}
	return d
}

func (d *Daemon) changed() {
	if d.o.Changed != nil {
		d.o.Changed()
	}
}

// Start repairs what a crash left behind and reads which sets exist. An error says what could not be repaired or read;
// the daemon can serve all the same.
func (d *Daemon) Start(ctx context.Context) error {
	d.life = ctx
	err := d.recover(ctx) // which reads the sets too, and is bounded: nobody is served before it ends
	err = errors.Join(err, d.resumeClones(ctx), d.releaseMeasured(), d.resumeUses())
	if mkErr := os.MkdirAll(d.o.Config.Daemon.StateDirectory, 0o700); mkErr != nil { // only now: the root may have been frozen
		err = errors.Join(err, fmt.Errorf("cannot make the state directory: %w", mkErr))
	}
	for _, p := range d.o.Config.Problems {
		d.o.Log.Warn("configuration", "problem", p.Error())
	}
	for _, p := range d.store.problems() {
		d.o.Log.Warn("state directory", "problem", p)
	}
	if err != nil {
		d.mu.Lock()
		d.problems = strings.Split(err.Error(), "\n")
		d.mu.Unlock()
	}
	return err
}

// refresh reads which sets exist from the providers' tags and the manifests.
func (d *Daemon) refresh(ctx context.Context) error {
	return d.refreshFrom(ctx, func(provider.Provider) bool { return true })
}

// refreshFrom is refresh that asks some providers only: what the others told last will do.
func (d *Daemon) refreshFrom(ctx context.Context, asked func(provider.Provider) bool) error {
	var snaps []provider.Snapshot
	var errs []error
	unheard := map[string]error{}
	reading := provider.Reading(ctx)
	for _, p := range d.o.Providers {
		listed, err := d.lastListed(p.Name())
		if asked(p) {
			listed, err = d.listOf(reading, p)
		}
		if err != nil { // one that cannot tell must not hide what the others tell
			unheard[p.Name()] = err
			errs = append(errs, err)
		}
		good, bad := catalog.WellFormed(listed)
		snaps, errs = append(snaps, good...), append(errs, bad)
	}
	c := catalog.Assemble(snaps, d.store.Load(), d.o.Machine)
	c.Unseen = d.unseen(reading, c, unheard)
	err := errors.Join(errs...)
	d.mu.Lock()
	d.contents, d.unlisted, d.unheard = c, err, unheard
	d.mu.Unlock()
	if waits(err) { // nobody knows what there is
		d.tidyLater()
	}
	return err
}

// refreshAfter is refresh after a change, whose own time may be over.
func (d *Daemon) refreshAfter(ctx context.Context) error {
	ctx, cancel := d.within(ctx, d.undoLimit)
	defer cancel()
	return d.refresh(ctx)
}

// listOf asks a provider for its snapshots; those of when it last could tell, if it cannot.
func (d *Daemon) listOf(ctx context.Context, p provider.Provider) ([]provider.Snapshot, error) {
	snaps, err := p.Snapshots(ctx)
	if err != nil {
		last, _ := d.lastListed(p.Name())
		return last, fmt.Errorf("cannot list the snapshots: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.listed[p.Name()] = snaps
	return snaps, nil
}

// lastListed is what a provider listed when it last could, and why it could not the last time.
func (d *Daemon) lastListed(name string) ([]provider.Snapshot, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.listed[name], d.unheard[name]
}

// count is how many sets there are, copies under way included. It asks nobody.
func (d *Daemon) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.contents.Sets) + len(d.clones)
}

// Sets lists all sets, oldest first.
func (d *Daemon) Sets() []api.Manifest {
	d.mu.Lock()
	sets, snaps := slices.Clone(d.contents.Sets), d.contents.Snapshots
	d.mu.Unlock()
	var all []provider.Snapshot
	for _, m := range sets {
		all = append(all, snaps[m.ID]...)
	}
	usages := d.usages(all)
	for i := range sets {
		sets[i] = d.told(sets[i], snaps[sets[i].ID], usages)
	}
	for _, c := range d.clonings() {
		if !c.ending.Load() {
			sets = append(sets, c.shown())
		}
	}
	slices.SortFunc(sets, func(a, b api.Manifest) int { return strings.Compare(a.ID, b.ID) })
	return sets
}

// told is a manifest with what changes by itself: mounts, and the use of copy-on-write areas.
func (d *Daemon) told(m api.Manifest, snaps []provider.Snapshot, usages map[[2]string]usage) api.Manifest {
	m.Volumes, m.Reasons = slices.Clone(m.Volumes), slices.Clip(m.Reasons)
	d.withMounts(&m)
	withUsage(&m, snaps, usages)
	return m
}

// find looks a set up by its id, or a prefix that fits one only.
func (d *Daemon) find(id string) (api.Manifest, []provider.Snapshot, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var found []api.Manifest
	for _, m := range d.contents.Sets {
		if m.ID == id {
			return m, d.contents.Snapshots[id], nil
		}
		if id != "" && strings.HasPrefix(m.ID, id) {
			found = append(found, m)
		}
	}
	switch len(found) {
	case 0:
		for _, c := range d.clones {
			if c.record.ID == id {
				return api.Manifest{}, nil, api.Errorf(api.Refused, "set %s is still being copied: %d%% are done", id, c.progress().Percent())
			}
		}
		return api.Manifest{}, nil, api.Errorf(api.NotFound, "no set %q", id)
	case 1:
		return found[0], d.contents.Snapshots[found[0].ID], nil
	}
	return api.Manifest{}, nil, api.Errorf(api.NotFound, "%d sets begin with %q: give more of the id", len(found), id)
}

// exists reports whether there is a finished set of exactly this id.
func (d *Daemon) exists(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.contents.Snapshots[id]) > 0
}

// DeleteSet removes a set, unmounting it first.
func (d *Daemon) DeleteSet(ctx context.Context, id string) error {
	if c := d.cloningTo(id); c != nil { // that undoes all of it
		c.cancel()
		<-c.ended
		if api.Of(c.err) == api.Cancelled {
			return nil
		}
		return c.err
	}
	release, err := d.turn.take(ctx, false)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := d.bounded(ctx)
	defer cancel()
	m, _, err := d.find(id)
	if err == nil {
		err = whilePinned(m)
	}
	if err != nil {
		return err
	}
	return d.deleteSet(ctx, m.ID)
}

// deleteSet is DeleteSet for who has the turn.
func (d *Daemon) deleteSet(ctx context.Context, id string) error {
	m, snaps, err := d.find(id)
	if err != nil {
		return err
	}
	if err := d.idle("delete", m.ID, hooks.PhaseVerify, hooks.PhaseReport); err != nil {
		return err
	}
	if d.reads(m.ID) {
		return api.Errorf(api.Refused, "cannot delete set %s: it is being copied (to stop that, delete the set that it is copied to)", m.ID)
	}
	if err := d.umount(ctx, m); err != nil {
		return late(fmt.Errorf("cannot delete set %s: %w", m.ID, err))
	}
	// One mark is enough for a crash to take the whole set; but only one that stands before anything goes.
	err = d.each(snaps, func(p provider.Provider, mine []provider.Snapshot) error { return p.Mark(ctx, mine) })
	if err == nil {
		err = d.remove(ctx, snaps)
	}
	if err != nil {
		return errors.Join(late(fmt.Errorf("cannot delete set %s: %w", m.ID, err)), d.refreshAfter(ctx))
	}
	d.o.Log.Info("set deleted", "set", m.ID)
	if err := d.refreshAfter(ctx); err != nil { // perhaps of a provider that has nothing to do with it
		d.o.Log.Warn("the set is deleted, but", "set", m.ID, "error", err)
	}
	if err := d.store.Remove(m.ID); err != nil { // the tags are gone, and so is the set
		d.o.Log.Warn("the set is deleted, but", "set", m.ID, "error", err)
	}
	return nil
}

// remove deletes snapshots, each by its provider, and what links to them.
func (d *Daemon) remove(ctx context.Context, snaps []provider.Snapshot) error {
	var errs []error
	for _, s := range snaps {
		errs = append(errs, d.unlink(s))
	}
	return errors.Join(append(errs, d.each(snaps, func(p provider.Provider, mine []provider.Snapshot) error { return p.Delete(ctx, mine) }))...)
}

// each hands snapshots to their providers.
func (d *Daemon) each(snaps []provider.Snapshot, do func(provider.Provider, []provider.Snapshot) error) error {
	var errs []error
	for _, p := range d.o.Providers {
		if mine := ofProvider(p, snaps); len(mine) > 0 {
			errs = append(errs, do(p, mine))
		}
	}
	return errors.Join(errs...)
}

func (d *Daemon) provider(name string) (provider.Provider, error) {
	for _, p := range d.o.Providers {
		if p.Name() == name {
			return p, nil
		}
	}
	return nil, api.Errorf(api.Invalid, "no provider %q", name)
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}
