package daemon

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/pools"
	"github.com/fermata-project/fermata/daemon/pools/acts"
)

// How much an overview tells at most.
const (
	overviewSets  = 20
	overviewLines = 100 // pools, policies, writers, problems
	overviewParts = 30  // phases, volumes and writers of a set
	overviewFew   = 10  // phases of a writer, reasons, copy-on-write areas
	overviewText  = 500 // bytes of a text
)

// Overview is what is known at this moment. Like Known it asks nobody: no device, no program, no file, and so not whether
// programs of writers are there, nor the guard.
func (d *Daemon) Overview() api.Overview {
	o := api.Overview{
		Version: d.o.Version, Host: hostname(), Time: time.Now().UTC(), Started: d.started.UTC(), Waiting: int(d.turn.waiting.Load()),
		Problems: d.Problems(), Policies: d.Policies(),
		Writers: d.listWriters(func(config.Writer) error { return nil }),
	}
	f := d.Frozen()
	o.Frozen, o.FrozenSince = f.Filesystems, f.Since.UTC()
	if f.Since.IsZero() {
		o.FrozenSince = time.Time{}
	}
	d.mu.Lock()
	if d.running != nil {
		o.Running, o.Phase = d.running.id, d.running.phase
	}
	sets := d.contents.Sets // never changed, only replaced
	d.mu.Unlock()
	o.SetCount = len(sets)
	for _, m := range sets {
		if m.State == api.Damaged {
			o.Damaged++
		}
	}
	for _, m := range slices.Backward(sets[max(0, len(sets)-overviewSets):]) {
		o.Sets = append(o.Sets, briefSet(m))
	}
	if d.o.Watch != nil {
		addPools(&o, d.o.Watch.State())
	}
	o.Groups = d.groupsSeen()
	o = brief(o)
	if d.keeper != nil {
		for i := range o.Pools {
			o.Pools[i].LastAct = lastAct(d.keeper.Recent(o.Pools[i].Name))
		}
	}
	return o
}

// addPools adds what the watch has seen.
func addPools(o *api.Overview, s pools.State) {
	o.PoolsSeen = s.Seen.UTC()
	if s.Err != nil {
		o.PoolsUnseen = s.Err.Error()
	}
	for _, p := range s.Pools {
		x := api.Pool{
			Name: p.Name, Device: p.Device, Mode: p.Mode, Size: p.Data.Size, Used: p.Data.Used, NeedsCheck: p.NeedsCheck,
			MetadataSize: p.Metadata.Size, MetadataUsed: p.Metadata.Used, Level: p.Level.String(), Reason: p.Reason,
			Trend: trend(p.DataLeft), MetadataTrend: trend(p.MetadataLeft),
		}
		if p.Type == "thin-pool" {
			o.Pools = append(o.Pools, x)
		} else {
			o.Areas = append(o.Areas, x)
		}
	}
	o.AreaCount = len(o.Areas)
	slices.SortStableFunc(o.Areas, func(a, b api.Pool) int { return cmp.Compare(urgency(b), urgency(a)) })
	o.Areas = first(o.Areas, overviewFew)
	// The worst first, as far as there is no room for all.
	if len(o.Pools) > overviewLines {
		slices.SortStableFunc(o.Pools, func(a, b api.Pool) int { return cmp.Compare(urgency(b), urgency(a)) })
	}
}

// lastAct is the last of the reports that tells of more than a change of level.
func lastAct(reports []acts.Report) *api.PoolAct {
	for _, r := range slices.Backward(reports) {
		if r.Act != acts.Warn && r.Act != acts.Clear {
			return &api.PoolAct{Time: r.Time.UTC(), Act: string(r.Act), Outcome: r.Outcome, Level: r.Level.String(), Detail: clip(r.Detail)}
		}
	}
	return nil
}

// urgency orders pools: by level, then by how full they are.
func urgency(p api.Pool) float64 {
	full := 0.0
	if p.Size > 0 {
		full = float64(p.Used) / float64(p.Size)
	}
	for _, l := range pools.Levels() {
		if l.String() == p.Level {
			full += 2 * float64(l)
		}
	}
	return full
}

// brief bounds an overview, and leaves out what not everybody may know.
func brief(o api.Overview) api.Overview {
	o.Problems, o.Pools, o.Policies, o.Writers = first(o.Problems, overviewLines), first(o.Pools, overviewLines), first(o.Policies, overviewLines), first(o.Writers, overviewLines)
	o.Problems = slices.Clone(o.Problems)
	for i := range o.Problems {
		o.Problems[i] = clip(o.Problems[i])
	}
	o.PoolsUnseen = clip(o.PoolsUnseen)
	o.Groups = first(o.Groups, overviewLines)
	for i := range o.Groups {
		o.Groups[i].Problem = clip(o.Groups[i].Problem)
	}
	for i := range o.Policies {
		p := &o.Policies[i]
		p.Description, p.Problem = clip(p.Description), clip(p.Problem)
		p.Volumes, p.Writers = first(p.Volumes, overviewLines), first(p.Writers, overviewLines)
		if p.LastRun != nil {
			run := *p.LastRun
			run.Error = clip(run.Error)
			p.LastRun = &run
		}
	}
	for i := range o.Writers {
		o.Writers[i] = briefWriter(o.Writers[i])
	}
	return o
}

// briefSet is as much of a manifest as an overview tells.
func briefSet(m api.Manifest) api.Manifest {
	m.Labels, m.Mounts, m.Reported = nil, nil, nil
	m.Reasons = slices.Clone(first(m.Reasons, overviewFew))
	for i := range m.Reasons {
		m.Reasons[i] = clip(m.Reasons[i])
	}
	m.Phases = briefPhases(m.Phases, overviewParts)
	m.Volumes = slices.Clone(first(m.Volumes, overviewParts))
	for i := range m.Volumes {
		v := &m.Volumes[i]
		v.Omits, v.Refused, v.COWUnknown, v.Invalid = nil, nil, "", clip(v.Invalid)
	}
	m.Writers = slices.Clone(first(m.Writers, overviewParts))
	for i := range m.Writers {
		m.Writers[i] = briefWriter(m.Writers[i])
	}
	if m.Verified != nil {
		m.Verified = &api.Verification{Time: m.Verified.Time, OK: m.Verified.OK}
	}
	return m
}

func briefWriter(w api.Writer) api.Writer {
	w.Components, w.Data, w.Problem, w.Phases = nil, nil, clip(w.Problem), briefPhases(w.Phases, overviewFew)
	w.Last, w.LastFailure = briefRun(w.Last), briefRun(w.LastFailure)
	return w
}

func briefRun(r *api.WriterRun) *api.WriterRun {
	if r == nil {
		return nil
	}
	b := *r
	b.Phases, b.Error = nil, clip(b.Error)
	return &b
}

func briefPhases(phases []api.Phase, n int) []api.Phase {
	phases = slices.Clone(first(phases, n))
	for i := range phases {
		phases[i].Error = clip(phases[i].Error)
	}
	return phases
}

func first[T any](list []T, n int) []T { return list[:min(n, len(list))] }

// clip shortens a text.
func clip(s string) string {
	if len(s) > overviewText {
		return strings.ToValidUTF8(s[:overviewText], "") + "…"
	}
	return s
}
