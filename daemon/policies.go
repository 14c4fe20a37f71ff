package daemon

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/retention"
	"github.com/fermata-project/fermata/dm/provider"
)

// Policies lists the policies by name; those whose files are bad come with their problem.
func (d *Daemon) Policies() []api.Policy {
	var out []api.Policy
	for _, name := range slices.Sorted(maps.Keys(d.o.Config.Policies)) {
		p := d.o.Config.Policies[name]
		x := api.Policy{
			Name: name, Description: p.Description, Volumes: p.Volumes, Writers: p.Writers,
			Consistency: string(p.Consistency), Method: string(p.Method), Prunes: !p.Retention.Empty(), Schedule: p.Schedule.At, Interval: p.Schedule.Interval,
			Changed: p.Changed.UTC(),
		}
		d.mu.Lock()
		x.LastRun = d.runs[name]
		d.mu.Unlock()
		for _, m := range d.setsOf(name) {
			x.Sets++
			if m.State == api.Complete {
				x.Last = m.Created
			}
		}
		out = append(out, x)
	}
	disabled := d.o.Config.Disabled("policy")
	for _, name := range slices.Sorted(maps.Keys(disabled)) {
		out = append(out, api.Policy{Name: name, Problem: disabled[name].Error()})
	}
	return out
}

// setsOf are the finished sets that this host has taken by a policy, oldest first. Those that another host took of volumes that
// both see are that host's to count and to drop.
func (d *Daemon) setsOf(policy string) []api.Manifest {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []api.Manifest
	for _, m := range d.contents.Sets {
		foreign := false
		for _, s := range d.contents.Snapshots[m.ID] {
			foreign = foreign || s.Machine != "" && s.Machine != d.o.Machine
		}
		if m.Policy == policy && !foreign {
			out = append(out, m)
		}
	}
	return out
}

// PrunePolicy deletes the sets of a policy that its retention does not keep, or only says which. What could not be deleted says why
// in its verdict.
func (d *Daemon) PrunePolicy(ctx context.Context, name string, dryRun bool) ([]api.Verdict, error) {
	p, err := d.o.Config.Policy(name)
	if err != nil {
		return nil, classed(api.Invalid, err)
	}
	if !dryRun { // nobody mounts or copies a set meanwhile
		release, err := d.turn.take(ctx, false)
		if err != nil {
			return nil, err
		}
		defer release()
		if err := d.refreshAfter(ctx); err != nil { // a set of which not all is known is kept
			d.o.Log.Warn("not all sets can be listed", "policy", name, "error", err)
		}
	}
	sets := d.setsOf(name)
	var known []retention.Set
	created := map[string]time.Time{}
	for _, m := range sets {
		s := d.retainable(m)
		if why := d.unsure(m.ID); s.Protected == "" && why != nil {
			s.Protected = fmt.Sprintf("not all of it can be seen: %v", why)
		}
		known = append(known, s)
		created[m.ID] = m.Created
	}
	var out []api.Verdict
	for _, v := range retention.Apply(p.Retention, known, time.Now()) {
		x := api.Verdict{ID: v.ID, Created: created[v.ID], Keep: v.Keep, Reasons: v.Reasons}
		if !v.Keep && !dryRun {
			d.turn.allow("the deletion of set "+v.ID, turnLimit) // there may be many
			if err := d.drop(ctx, v.ID); err != nil {
				x.Error = err.Error()
				d.o.Log.Warn("a set is kept for longer than its policy wants", "set", v.ID, "policy", name, "error", err)
			} else {
				x.Deleted = true
			}
		}
		out = append(out, x)
	}
	return out, nil
}

// drop deletes a set; nobody waits for one that hangs longer than for any other change.
func (d *Daemon) drop(ctx context.Context, id string) error {
	ctx, cancel := d.bounded(ctx)
	defer cancel()
	if err := context.Cause(ctx); err != nil {
		return api.Errorf(classOf(err, api.Cancelled), "cancelled before set %s: %w", id, err)
	}
	return d.deleteSet(ctx, id)
}

// retainable is what retention has to know of a set.
func (d *Daemon) retainable(m api.Manifest) retention.Set {
	return retention.Set{ID: m.ID, Created: m.Created, Labels: m.Labels, Damaged: m.State == api.Damaged, Passing: m.Passing, Protected: d.protected(m)}
}

// protected says why a set must not be dropped now; empty: it may be.
func (d *Daemon) protected(m api.Manifest) string {
	present, err := d.mountsOf(m.ID)
	switch {
	case m.Pinned != nil:
		return "it is pinned"
	case m.Lost:
		return "its manifest is lost: whether it is pinned is not known (fermata snapshot pin, or unpin, says so)"
	case err != nil:
		return "whether it is mounted is not known"
	case len(present) > 0:
		return "it is mounted"
	case d.reads(m.ID):
		return "it is being copied"
	}
	d.mu.Lock()
	snaps := d.contents.Snapshots[m.ID]
	d.mu.Unlock()
	switch used, err := d.inUse(snaps); {
	case err != nil:
		return "whether it is in use is not known"
	case used:
		return "it is in use"
	}
	return ""
}

// inUse reports whether somebody has one of the snapshots open, be it without us: a mount by hand, a virtual machine, an nbd server.
func (d *Daemon) inUse(snaps []provider.Snapshot) (bool, error) {
	for _, p := range d.o.Providers {
		x, ok := p.(provider.Occupier)
		if !ok {
			continue
		}
		for _, s := range ofProvider(p, snaps) {
			if used, err := x.InUse(s); used || err != nil {
				return used, err
			}
		}
	}
	return false, nil
}
