package pools

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/lvm/metadata"
	"github.com/fermata-project/fermata/dm/provider"
)

// GroupSource tells of volume groups: dm.Control, and metadata.Open.
type GroupSource interface {
	// Groups lists those with an active volume.
	Groups() ([]dm.Group, error)
	// Open opens a disk to read what LVM has written there. It may hang, and so may reading.
	Open(dm.Dev) (metadata.Disk, error)
}

// Concern is what Fermata has to do with a volume group.
type Concern int

const (
	None    Concern = iota
	Touched         // it holds a pool, or a volume of a policy
	Used            // and space is taken from it: for copy-on-write areas, or to extend a pool
)

// Group is what is known of a volume group.
type Group struct {
	Name, UUID string
	Marks      map[string]provider.Mark // of Fermata's snapshots in it, by name: vg/lv
	Size, Free uint64                   // bytes
	Used       bool                     // space is taken from it; if not, it is ok however full it is
	Level      Level                    // ok, warning or critical: that a group is full breaks nothing
	Reason     string
	Since      time.Time // of the level
	Seen       time.Time // when it was read last
	Err        error     // why it could not be read now
}

// GroupChange is a volume group's step to another level.
type GroupChange struct {
	Group
	Was Level
}

// GroupWatch follows the volume groups that Fermata has to do with. Extents are given and taken by LVM alone, on disk, and the kernel
// hears of that only where a volume is resumed. So LVM's metadata are read after each event, after it again, because a removal is written
// down after the volume has gone, and each minute.
type GroupWatch struct {
	source  GroupSource
	events  Events
	concern func([]dm.Group) map[string]Concern // by UUID
	quiet   func() bool                         // nothing is frozen
	at      Thresholds
	report  func(GroupChange)
	log     *slog.Logger

	state   atomic.Pointer[[]Group]
	looked  chan struct{}            // 1 deep: there is a new state
	tracked map[string]*trackedGroup // by UUID
}

// trackedGroup is one group, by what it is rather than how it is called.
type trackedGroup struct {
	Group
	newest  *metadata.Newest
	reading chan readGroup // somebody reads: nil if nobody
}

type readGroup struct {
	group metadata.Group
	err   error
}

const (
	groupSettled = time.Second     // events are gathered: a set raises dozens
	groupLate    = 3 * time.Second // after them LVM has written everything
	groupHangs   = 5 * time.Second // so long is waited for a disk
	groupRelist  = 10              // looks by the timer until groups are listed anew
)

// NewGroupWatch makes a watch of volume groups; Run runs it. Concern says which ones, quiet whether they may be read now. Report is
// called with each change of level: it must not block.
func NewGroupWatch(source GroupSource, events Events, at Thresholds, concern func([]dm.Group) map[string]Concern, quiet func() bool, report func(GroupChange), log *slog.Logger) *GroupWatch {
	return &GroupWatch{source: source, events: events, at: at, concern: concern, quiet: quiet, report: report, log: log,
		looked: make(chan struct{}, 1), tracked: map[string]*trackedGroup{}}
}

// Groups are what was seen last, by name. It never waits.
func (w *GroupWatch) Groups() []Group {
	if s := w.state.Load(); s != nil {
		return *s
	}
	return nil
}

// Looked tells of each new state, to one listener. States that come faster than it listens are told of once.
func (w *GroupWatch) Looked() <-chan struct{} { return w.looked }

// Run watches until ctx ends. It runs once.
func (w *GroupWatch) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	changed, ended := make(chan error), make(chan struct{})
	defer func() { cancel(); <-ended }()
	go func() { defer close(ended); follow(ctx, w.events, changed) }()
	var groups []dm.Group
	var late <-chan time.Time
	for list, timers := true, 0; w.untilQuiet(ctx); {
		if list {
			groups = w.list(groups)
		}
		w.look(ctx, groups)
		list = true
		t := time.NewTimer(longest)
		select {
		case <-ctx.Done():
		case err := <-changed:
			if err != nil && ctx.Err() == nil {
				return err
			}
			pause(ctx, groupSettled)
			late = time.After(groupLate)
		case <-late:
			late = nil
		case <-t.C:
			timers++
			list = timers%groupRelist == 0
		}
		t.Stop()
	}
	return nil
}

// untilQuiet waits until nothing is frozen; false: ctx has ended.
func (w *GroupWatch) untilQuiet(ctx context.Context) bool {
	for ctx.Err() == nil && !w.quiet() {
		pause(ctx, time.Second)
	}
	return ctx.Err() == nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// list lists the groups anew; those that were, if that fails.
func (w *GroupWatch) list(were []dm.Group) []dm.Group {
	groups, err := w.source.Groups()
	if err != nil {
		w.log.Warn("not every volume group can be watched", "error", err)
	}
	if groups == nil && err != nil {
		return were
	}
	return groups
}

// look reads the groups that are of concern, and shows what it has seen.
func (w *GroupWatch) look(ctx context.Context, groups []dm.Group) {
	here, concern := map[string]bool{}, w.concern(groups)
	for _, g := range groups {
		if concern[g.UUID] == None {
			continue
		}
		here[g.UUID] = true
		t := w.tracked[g.UUID]
		if t == nil {
			t = &trackedGroup{Group: Group{UUID: g.UUID, Name: g.Name, Since: time.Now()}, newest: metadata.NewNewest(w.source.Open, provider.Marks)}
			w.tracked[g.UUID] = t
		}
		t.Used = concern[g.UUID] == Used
		read, err := t.read(ctx, g)
		if ctx.Err() != nil {
			return
		}
		w.note(t, read, err)
	}
	maps.DeleteFunc(w.tracked, func(uuid string, _ *trackedGroup) bool { return !here[uuid] })
	state := make([]Group, 0, len(w.tracked))
	for _, t := range w.tracked {
		state = append(state, t.Group)
	}
	slices.SortFunc(state, func(a, b Group) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.UUID, b.UUID)) })
	w.state.Store(&state)
	select {
	case w.looked <- struct{}{}:
	default:
	}
}

var errHangs = fmt.Errorf("its disks have not answered for %v", groupHangs)

// read reads a group, apart: who hangs keeps nobody, and is not asked again before it has answered.
func (t *trackedGroup) read(ctx context.Context, g dm.Group) (metadata.Group, error) {
	if t.reading == nil {
		done := make(chan readGroup, 1)
		t.reading = done
		newest := t.newest
		go func() {
			group, err := newest.Read(g.UUID, g.Disks)
			for try := 0; errors.Is(err, metadata.ErrDamaged) && try < 3; try++ { // LVM is writing
				time.Sleep(100 * time.Millisecond)
				group, err = newest.Read(g.UUID, g.Disks)
			}
			done <- readGroup{group, err}
		}()
	}
	limit := time.NewTimer(groupHangs)
	defer limit.Stop()
	select {
	case r := <-t.reading:
		t.reading = nil
		return r.group, r.err
	case <-limit.C:
		return metadata.Group{}, errHangs
	case <-ctx.Done():
		return metadata.Group{}, ctx.Err()
	}
}

// note notes what was read of a group.
func (w *GroupWatch) note(t *trackedGroup, g metadata.Group, err error) {
	if err != nil {
		if t.Err == nil || t.Err.Error() != err.Error() {
			w.log.Warn("a volume group cannot be watched", "group", t.Name, "error", err)
		}
		t.Err = err
		return
	}
	was := t.Level
	t.Marks = marks(g)
	t.Name, t.Size, t.Free, t.Seen, t.Err = g.Name, g.Extents*g.Extent, g.Free*g.Extent, time.Now(), nil
	t.Level, t.Reason = judgeGroup(was, t.Group, w.at)
	if t.Level != was {
		t.Since = time.Now()
		w.report(GroupChange{Group: t.Group, Was: was})
	}
}

// marks are those of a group's volumes.
func marks(g metadata.Group) map[string]provider.Mark {
	out := map[string]provider.Mark{}
	for name, tags := range g.Tags {
		if m, ok := provider.MarkOf(tags); ok {
			out[g.Name+"/"+name] = m
		}
	}
	return out
}

// judgeGroup says at which level a group is that was at one.
func judgeGroup(was Level, g Group, at Thresholds) (Level, string) {
	if !g.Used {
		return OK, ""
	}
	used := dm.Fill{Used: g.Size - min(g.Free, g.Size), Size: g.Size}
	l := min(fullness(was, used, at), Critical)
	if l == OK {
		return OK, ""
	}
	return l, fmt.Sprintf("%.1f %% of the volume group are in use: what is taken from it may not find room", 100*part(used))
}
