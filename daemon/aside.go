package daemon

import (
	"context"
	"errors"
	"slices"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/hooks"
)

// beside begins what is done with a finished set outside of the turn, one thing at a time for each set: meanwhile it is not
// deleted. release ends it.
func (d *Daemon) beside(id string, phase hooks.Phase) (release func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if busy := d.asides[id]; busy != "" {
		return nil, api.Errorf(api.Busy, "cannot %s set %s: %s", phase, id, busyWith[busy])
	}
	if len(d.contents.Snapshots[id]) == 0 {
		return nil, api.Errorf(api.NotFound, "no set %q", id)
	}
	d.asides[id] = phase
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.asides, id)
	}, nil
}

var busyWith = map[hooks.Phase]string{
	hooks.PhaseVerify: "it is being verified", hooks.PhaseReport: "its writers are being told how the backup went",
}

// idle is nil if none of these is done with a set.
func (d *Daemon) idle(do, id string, phases ...hooks.Phase) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if busy := d.asides[id]; slices.Contains(phases, busy) {
		return api.Errorf(api.Busy, "cannot %s set %s: %s", do, id, busyWith[busy])
	}
	return nil
}

// amend changes a finished set's manifest, here and in the state directory.
func (d *Daemon) amend(id string, change func(*api.Manifest)) error {
	stored, known := d.store.Load()[id]
	d.mu.Lock()
	i := slices.IndexFunc(d.contents.Sets, func(m api.Manifest) bool { return m.ID == id })
	if i < 0 {
		d.mu.Unlock()
		return api.Errorf(api.NotFound, "no set %q", id)
	}
	if !known {
		stored = d.contents.Sets[i]
	}
	d.contents.Sets = slices.Clone(d.contents.Sets)
	change(&d.contents.Sets[i])
	d.mu.Unlock()
	change(&stored)
	return d.store.Save(stored)
}

// partOf is a writer of a finished set, as it is declared now, and what it is told. An error says why it cannot be asked.
func (d *Daemon) partOf(m api.Manifest, w api.Writer) (c config.Writer, ev hooks.Event, err error) {
	c, err = d.writer(w.Name)
	if err != nil {
		return c, ev, err
	}
	ev = hooks.Event{Set: m.ID, Policy: m.Policy}
	for _, v := range m.Volumes {
		if v.MountPoint != "" {
			ev.Volumes = append(ev.Volumes, v.MountPoint)
		}
	}
	ev.Prepared, _ = w.Data[string(hooks.PhasePrepare)].(map[string]any)
	return c, ev, nil
}

// ask asks a writer for a phase beside a set.
func (d *Daemon) ask(ctx context.Context, c config.Writer, phase hooks.Phase, ev hooks.Event) (r hooks.Result) {
	w, err := d.o.NewWriter(c)
	if err != nil {
		return hooks.Result{Writer: c.Name, Phase: phase, Err: err}
	}
	defer func() { r.Err = errors.Join(r.Err, w.Close()) }()
	return hooks.Ask(ctx, w, phase, ev)
}
