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
	"github.com/fermata-project/fermata/fsfreeze/guard"
)

func (d *Daemon) journalDir() string { return filepath.Join(d.o.RunDir, "journal") }

func (d *Daemon) noteDir() string {
	_, notes := d.o.Host.GuardPaths()
	return notes
}

// recover repairs what a crash has left: first what is frozen or suspended, then what is half-made. Every part of it can
// be interrupted and done again.
func (d *Daemon) recover(ctx context.Context) error {
	left, err := journal.Leftovers(d.journalDir())
	errs := []error{err}
	for _, l := range left {
		err := d.rescue(ctx, l)
		if err == nil && l.Err == nil { // a corrupt one stays, to be looked at
			// Forgotten at once: what is frozen from now on may be somebody else's. The note goes after the journal that
			// it explains.
			err = errors.Join(l.Remove(), guard.RemoveNote(d.noteDir(), l.Name))
		}
		errs = append(errs, err)
	}
	// Half-made snapshots are known by their tags, whether a journal speaks of them or a power cut has taken it.
	errs = append(errs, d.refresh(ctx))
	d.mu.Lock()
	c := d.contents
	d.mu.Unlock()
	known := maps.Clone(c.Snapshots)
	for _, s := range c.Scratch {
		known[s.Set.ID] = append(slices.Clone(known[s.Set.ID]), s)
	}
	errs = append(errs, d.removeHalfMade(ctx, c), d.resumeMounts(ctx, known))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot recover everything: %w", err)
	}
	return nil
}

// rescue releases what a dead transaction may have held, unless the guard has done it. The guard leaves a note when it
// releases; without one it died together with the daemon, and what the journal names is ours.
func (d *Daemon) rescue(ctx context.Context, l journal.Leftover) error {
	var errs []error
	for _, step := range journal.Holding {
		state, data, begun := l.Last(step)
		if !begun || state != journal.Doing {
			continue // it had returned, and had let go
		}
		report, noted, err := d.awaitNote(ctx, l.Name)
		errs = append(errs, err)
		if noted {
			d.recoveredf("set %s: the guard released %v (%s)", l.Name, report.Released, report.Reason)
			continue
		}
		var h held
		if err := json.Unmarshal(data, &h); err != nil {
			errs = append(errs, fmt.Errorf("cannot read what set %s held: %w", l.Name, err))
			continue
		}
		did, err := d.o.Host.Rescue(h)
		for _, what := range did {
			d.recoveredf("set %s: %s", l.Name, what)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// noteTime is what a living guard gets to write its note: it does so as soon as nothing is held any more.
const noteTime = 3 * time.Second

// awaitNote reads the guard's note, waiting for it a while if the guard lives: it may be at work this very moment.
func (d *Daemon) awaitNote(ctx context.Context, set string) (guard.Report, bool, error) {
	lives := d.pingGuard() == nil
	for end := time.Now().Add(noteTime); ; time.Sleep(20 * time.Millisecond) {
		report, noted, err := guard.ReadNote(d.noteDir(), set)
		if noted || err != nil || !lives || time.Now().After(end) || ctx.Err() != nil {
			return report, noted, err
		}
	}
}

// removeHalfMade removes snapshots of sets that were never finished, and throw-away copies that nobody has mounted.
func (d *Daemon) removeHalfMade(ctx context.Context, c catalog.Contents) error {
	doomed := c.Half
	for _, s := range c.Scratch {
		m, _, err := d.find(s.Set.ID)
		if err != nil || len(d.mounted(m)) == 0 {
			doomed = append(doomed, s)
		}
	}
	if len(doomed) == 0 {
		return nil
	}
	for _, s := range doomed {
		d.recoveredf("set %s: removed half-made %s", s.Set.ID, s.Name)
	}
	return errors.Join(d.remove(ctx, doomed), d.refresh(ctx))
}

// tidy removes what a set that failed could not remove itself.
func (d *Daemon) tidy(ctx context.Context) error {
	d.mu.Lock()
	c := d.contents
	d.mu.Unlock()
	if len(c.Half) == 0 {
		return nil
	}
	c.Scratch = nil
	return d.removeHalfMade(ctx, c)
}

func (d *Daemon) recoveredf(format string, a ...any) {
	text := fmt.Sprintf(format, a...)
	d.o.Log.Warn("recovered", "what", text)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.recovered = append(d.recovered, text)
}
