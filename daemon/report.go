package daemon

import (
	"context"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/hooks"
)

// ReportSet takes down how the backup went that a requester made of a set, and tells it to the set's writers: who truncates
// logs does so only now. A set is reported on once, unless forced.
func (d *Daemon) ReportSet(ctx context.Context, id string, o api.ReportOptions) (*api.Report, error) {
	if o.Outcome != api.BackupOK && o.Outcome != api.BackupFailed {
		return nil, api.Errorf(api.Invalid, "cannot report that the backup was %q: it was %s or %s", o.Outcome, api.BackupOK, api.BackupFailed)
	}
	m, _, err := d.find(id)
	if err != nil {
		return nil, err
	}
	release, err := d.beside(m.ID, hooks.PhaseReport)
	if err != nil {
		return nil, err
	}
	defer release()
	if m, _, err = d.find(m.ID); err != nil {
		return nil, err
	}
	if m.Reported != nil && !o.Force {
		return nil, api.Errorf(api.Invalid, "cannot report on set %s: its backup was reported as %s at %s (to tell the writers again: --force)",
			m.ID, m.Reported.Outcome, m.Reported.Time.Format(time.RFC3339))
	}
	r := api.Report{Outcome: o.Outcome, Time: time.Now().UTC(), By: o.By}
	for _, w := range m.Writers {
		if told, asked := d.tellReport(ctx, m, w, o.Outcome); asked {
			r.Writers = append(r.Writers, told)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, api.Errorf(classOf(context.Cause(ctx), api.Cancelled), "cannot tell all writers of set %s how the backup went: %w", m.ID, context.Cause(ctx))
	}
	d.o.Log.Info("backup reported", "set", m.ID, "outcome", r.Outcome, "by", r.By)
	if err := d.amend(m.ID, func(m *api.Manifest) { m.Reported = &r }); err != nil {
		d.o.Log.Warn("the report is taken down, but", "set", m.ID, "error", err) // tried again with the next change
	}
	return &r, nil
}

// tellReport tells one writer, if it is to be told. One that has not held in the set hears of no good backup: there is none
// of its data that it could rely on.
func (d *Daemon) tellReport(ctx context.Context, m api.Manifest, w api.Writer, outcome string) (told api.Told, asked bool) {
	told.Writer = w.Name
	c, ev, err := d.partOf(m, w)
	switch {
	case err != nil:
		told.Skipped = "it is not declared any more: " + err.Error()
		return told, true
	case !takes(c, hooks.PhaseReport):
		return told, false
	case outcome == api.BackupOK && w.State != string(hooks.StateReleased) && w.State != string(hooks.StateInactive):
		told.Skipped = "it did not hold in this set: it was " + w.State
		return told, true
	}
	ev.Outcome = hooks.Outcome(outcome)
	result := d.ask(ctx, c, hooks.PhaseReport, ev)
	told.Duration = result.Duration
	if result.Err != nil {
		told.Error = result.Err.Error()
		d.o.Log.Warn("a writer was not told how the backup went", "set", m.ID, "writer", w.Name, "error", result.Err)
	}
	return told, true
}
