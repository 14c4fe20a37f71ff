package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/fermata-project/fermata/daemon/catalog"
	"github.com/fermata-project/fermata/daemon/journal"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/fsfreeze/guard"
	"github.com/fermata-project/fermata/hooks/child"
)

func (d *Daemon) journalDir() string { return filepath.Join(d.o.RunDir, "journal") }

func (d *Daemon) noteDir() string {
	_, notes := d.o.Host.GuardPaths()
	return notes
}

// recover repairs what a crash has left: first what is frozen or suspended, then what is half-made. Every part of it can
// be interrupted and done again.
func (d *Daemon) recover(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d.undoLimit, lateAfter(d.undoLimit))
	defer cancel()
	left, err := journal.Leftovers(d.journalDir())
	errs := []error{err}
	var known []string
	for _, l := range left {
		known = append(known, l.Name)
	}
	if err == nil { // a repair that died has left some without their journal
		errs = append(errs, guard.KeepNotes(d.noteDir(), known))
	}
	inFlight := map[string]bool{}
	var inform []journal.Leftover // whose writers are still to be told
	for _, l := range left {
		open := d.stillOpen(ctx, l)
		if open {
			inFlight[l.Name] = true
		}
		if open && !d.o.Alone {
			errs = append(errs, fmt.Errorf("set %s is left alone: another fermatad has its journal open", l.Name))
			continue
		}
		err := d.rescue(ctx, l, !open)
		if open {
			go d.rescueLater(l)
			err = errors.Join(err, fmt.Errorf("a thread of the daemon that died with set %s is still in the kernel, and may freeze something yet: it is released as soon as it can be", l.Name))
		}
		if err == nil && l.Err == nil { // a corrupt one stays, to be looked at
			// Noted, or forgotten, at once: what is frozen from now on may be somebody else's.
			if err = d.noteReleased(l); err == nil && owed(l) {
				inform = append(inform, l)
			} else {
				err = errors.Join(err, d.forget(l))
			}
		}
		errs = append(errs, err)
	}
	errs = append(errs, d.releaseUnits(ctx))
	// Half-made snapshots are known by their tags, whether a journal speaks of them or a power cut has taken it.
	listed := d.refresh(ctx)
	errs = append(errs, listed)
	for _, l := range inform {
		d.abandon(l, listed)
		errs = append(errs, d.forget(l))
	}
	d.mu.Lock()
	c := d.contents
	d.mu.Unlock()
	c.Half = slices.DeleteFunc(slices.Clone(c.Half), func(s provider.Snapshot) bool { return inFlight[s.Set.ID] })
	snaps := maps.Clone(c.Snapshots)
	for _, s := range c.Scratch {
		snaps[s.Set.ID] = append(slices.Clone(snaps[s.Set.ID]), s)
	}
	errs = append(errs, d.removeReleased(ctx, c), d.resumeMounts(ctx, snaps))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot recover everything: %w", err)
	}
	return nil
}

// noteReleased takes down that nothing of a transaction is held any more, if its journal is still needed.
func (d *Daemon) noteReleased(l journal.Leftover) error {
	if !owed(l) {
		return nil
	}
	return l.Released()
}

// forget removes a journal that was acted upon, and after it the note, which explains it.
func (d *Daemon) forget(l journal.Leftover) error {
	return errors.Join(l.Remove(), guard.RemoveNote(d.noteDir(), l.Name))
}

// stillOpen reports whether somebody has a journal open, after a dying daemon's time.
func (d *Daemon) stillOpen(ctx context.Context, l journal.Leftover) bool {
	for end := time.Now().Add(d.dying); ; time.Sleep(dyingPause) {
		if open := l.Open(); !open || time.Now().After(end) || ctx.Err() != nil {
			return open
		}
	}
}

// rescueLater releases what a thread of a dead daemon has frozen in the end, when it has left the kernel.
func (d *Daemon) rescueLater(l journal.Leftover) {
	for l.Open() {
		time.Sleep(dyingPause)
	}
	err := d.rescue(context.Background(), l, true)
	if err == nil && l.Err == nil {
		err = d.forget(l)
	}
	if err != nil {
		d.o.Log.Error("not everything is released of what a daemon held that died in the kernel (fermata thaw)", "set", l.Name, "error", err)
	}
}

// rescue releases what a dead transaction may have held, unless the guard has done it. The guard leaves a note when it
// releases; without one it died together with the daemon, and what the journal names is ours. So it is if the note says
// that something could not be released. settled: the transaction can freeze nothing any more.
func (d *Daemon) rescue(ctx context.Context, l journal.Leftover, settled bool) error {
	var errs []error
	released := 0
	defer func() {
		if released > 0 && d.o.Released != nil {
			d.o.Released(released)
		}
	}()
	for _, step := range journal.Holding {
		state, data, begun := l.Last(step)
		if !begun || state != journal.Doing {
			continue // it had returned, and had let go
		}
		report, noted, err := d.awaitNote(ctx, l.Name)
		errs = append(errs, err)
		if noted {
			d.recoveredf("set %s: the guard released %v (%s)", l.Name, report.Released, report.Reason)
			released = len(report.Released)
			if len(report.Errors) == 0 {
				continue
			}
		}
		var h held
		if err := json.Unmarshal(data, &h); err != nil {
			errs = append(errs, fmt.Errorf("cannot read what set %s held: %w", l.Name, err))
			continue
		}
		did, err := d.o.Host.Rescue(h, settled)
		for _, what := range did {
			d.recoveredf("set %s: %s", l.Name, what)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// noteTime is what a living guard gets to write its note: it does so as soon as nothing is held any more.
const noteTime = 3 * time.Second

// awaitNote reads the guard's note, waiting for it a while if the guard has a hold of the set: it may be at work this very
// moment. One that was started after the other's death, perhaps by the question, has none.
func (d *Daemon) awaitNote(ctx context.Context, set string) (guard.Report, bool, error) {
	socket, notes := d.o.Host.GuardPaths()
	for end := time.Now().Add(noteTime); ; time.Sleep(20 * time.Millisecond) {
		atWork, asking := guard.Guarding(socket, set, noteTime) // before the note is looked for: it is written first
		report, noted, err := guard.ReadNote(notes, set)
		if noted || err != nil || asking != nil || !atWork || time.Now().After(end) || ctx.Err() != nil {
			return report, noted, err
		}
	}
}

// letGo is what the programs of an earlier daemon get to let go of half-made snapshots, on which a writer recovers its data:
// they see the end of their input, and are killed if they do not go.
const letGo = child.Grace + 3*time.Second

// removeReleased is removeHalfMade, at the start.
func (d *Daemon) removeReleased(ctx context.Context, c catalog.Contents) error {
	for end := time.Now().Add(d.letGo); ; {
		err := d.removeHalfMade(ctx, c)
		if err == nil || time.Now().After(end) || ctx.Err() != nil {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// removeHalfMade removes snapshots of sets that were never finished, and throw-away copies that nobody has mounted.
func (d *Daemon) removeHalfMade(ctx context.Context, c catalog.Contents) error {
	doomed := slices.Clone(c.Half)
	var errs []error
	for _, s := range c.Scratch {
		present, err := d.mountsOf(s.Set.ID)
		if err == nil && len(present) == 0 {
			doomed = append(doomed, s)
		}
		errs = append(errs, err)
	}
	if len(doomed) > 0 {
		err := d.remove(ctx, doomed)
		if err == nil {
			for _, s := range doomed {
				d.recoveredf("set %s: removed half-made %s", s.Set.ID, s.Name)
			}
		}
		errs = append(errs, err, d.refreshAfter(ctx))
	}
	return errors.Join(errs...)
}

// left notes what the undoing of a set has left for tidy.
func (d *Daemon) left(set string, err error) error {
	if err != nil {
		d.mu.Lock()
		d.undone[set] = err
		d.mu.Unlock()
		if waits(err) {
			d.tidyLater()
		}
	}
	return err
}

// tidy removes what a set that failed could not remove itself, and takes no longer than limit for it.
func (d *Daemon) tidy(ctx context.Context, limit time.Duration) error {
	limit = min(limit, d.undoLimit)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, lateAfter(limit))
	defer cancel()
	d.mu.Lock()
	c, undone, unlisted := d.contents, maps.Clone(d.undone), d.unlisted
	d.mu.Unlock()
	var errs []error
	if unlisted != nil || len(undone) > 0 { // nobody knows what there is
		errs = append(errs, d.refresh(ctx))
		d.mu.Lock()
		c, unlisted = d.contents, d.unlisted
		d.mu.Unlock()
	}
	c.Scratch = nil
	for set := range undone { // a command that finishes it may have ended after its time
		if snaps := c.Snapshots[set]; len(snaps) > 0 {
			errs = append(errs, d.each(snaps, func(p provider.Provider, mine []provider.Snapshot) error { return p.Mark(ctx, mine) }))
			c.Half = slices.Concat(c.Half, snaps)
		}
	}
	if err := errors.Join(errors.Join(errs...), d.removeHalfMade(ctx, c)); err != nil {
		return err
	}
	if unlisted == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		clear(d.undone)
	}
	return nil
}

func (d *Daemon) recoveredf(format string, a ...any) {
	text := fmt.Sprintf(format, a...)
	d.o.Log.Warn("recovered", "what", text)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.recovered = append(d.recovered, text)
}
