package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/fermata-project/fermata/daemon/journal"
	"github.com/fermata-project/fermata/hooks"
)

// abandonLimit bounds what the writers of a dead daemon's set take to hear of its end: nobody is served before.
const abandonLimit = 15 * time.Second

// asked is what the journal has of the writers, before they are asked to prepare.
type asked struct {
	Policy  string   `json:"policy,omitempty"`
	DryRun  bool     `json:"dry_run,omitempty"`
	Writers []string `json:"writers"`
}

func (t *transaction) asked() any {
	a := asked{Policy: t.policy.Name, DryRun: t.test, Writers: []string{}}
	for _, w := range t.policy.writers {
		a.Writers = append(a.Writers, w.Name)
	}
	return a
}

// owed reports whether writers of a dead transaction may not have been told how it ended.
func owed(l journal.Leftover) bool {
	state, _, begun := l.Last("prepare-writers")
	return begun && state != journal.Undone
}

// mayHold reports whether some may have been asked to hold, and not to let go.
func mayHold(l journal.Leftover) bool {
	freeze, _, begun := l.Last("freeze-writers")
	thaw, _, _ := l.Last("thaw-writers")
	return begun && freeze != journal.Undone && thaw != journal.Done
}

// abandon tells the writers of a dead transaction that it does not come about, unless it did; listed is why the sets cannot be
// listed. A recovery that is killed meanwhile leaves it to the next one: they may be told twice.
func (d *Daemon) abandon(l journal.Leftover, listed error) {
	if _, _, finishing := l.Last("finalise"); finishing && (listed != nil || d.exists(l.Name)) {
		return
	}
	fail := func(err error) {
		d.o.Log.Error("a writer was not told that its set does not come about", "set", l.Name, "error", err)
	}
	_, data, _ := l.Last("prepare-writers")
	var a asked
	if err := json.Unmarshal(data, &a); err != nil {
		fail(fmt.Errorf("cannot read which were asked: %w", err))
		return
	}
	ctx, cancel := context.WithTimeoutCause(d.life, abandonLimit, lateAfter(abandonLimit))
	defer cancel()
	ev := hooks.Event{Set: l.Name, Policy: a.Policy, DryRun: a.DryRun, Outcome: hooks.OutcomeFailed}
	var all sync.WaitGroup
	for _, name := range a.Writers {
		all.Go(func() {
			if err := d.abandonOne(ctx, name, ev, mayHold(l)); err != nil {
				fail(err)
			}
		})
	}
	all.Wait()
}

func (d *Daemon) abandonOne(ctx context.Context, name string, ev hooks.Event, held bool) error {
	c, err := d.writer(name)
	if err != nil {
		return err
	}
	w, err := d.o.NewWriter(c)
	if err != nil {
		return err
	}
	defer w.Close()
	x, ok := w.(hooks.Abandoner)
	if !ok {
		return nil
	}
	if err := x.Abandoned(ctx, ev, held); err != nil {
		return err
	}
	d.recoveredf("set %s: told writer %s that it does not come about", ev.Set, name)
	return nil
}
