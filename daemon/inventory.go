package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/forecast"
	"github.com/fermata-project/fermata/daemon/pools"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/fsfreeze/guard"
)

// Providers lists the providers in the order of choice.
func (d *Daemon) Providers() []api.Provider {
	var out []api.Provider
	for _, p := range d.o.Providers {
		x := api.Provider{Name: p.Name(), Kind: string(p.Kind()), Usable: true, Capabilities: capabilities(p)}
		if about, ok := p.(provider.Introducer); ok {
			x.Version, x.Capabilities = about.Version(), about.Capabilities()
		}
		out = append(out, x)
	}
	out = append(out, d.o.Unusable...)
	for _, name := range slices.Sorted(maps.Keys(d.o.Config.Providers)) {
		if p := d.o.Config.Providers[name]; !p.Enabled {
			kind := string(provider.BuiltIn)
			if p.Plugin != nil {
				kind = p.Plugin.Kind
			}
			out = append(out, api.Provider{Name: name, Kind: kind, Problem: "switched off in " + p.File})
		}
	}
	disabled := d.o.Config.Disabled("provider")
	for _, name := range slices.Sorted(maps.Keys(disabled)) {
		out = append(out, api.Provider{Name: name, Problem: disabled[name].Error()})
	}
	return out
}

// capabilities of a built-in provider are what it implements.
func capabilities(p provider.Provider) []string {
	var out []string
	add := func(name string, has bool) {
		if has {
			out = append(out, name)
		}
	}
	_, copies := p.(provider.Copier)
	_, pools := p.(provider.Pooler)
	_, resizes := p.(provider.Resizer)
	_, uses := p.(provider.Usager)
	add("copy", copies)
	add("pools", pools)
	add("resize", resizes)
	add("usage", uses)
	return out
}

// Pools lists the pools of all providers.
func (d *Daemon) Pools(ctx context.Context) ([]api.Pool, error) {
	var out []api.Pool
	var errs []error
	for _, p := range d.o.Providers {
		x, ok := p.(provider.Pooler)
		if !ok {
			continue
		}
		found, err := d.pools(ctx, x, p.Name())
		errs = append(errs, err)
		for _, q := range found {
			out = append(out, d.watched(api.Pool{
				Name: q.Name, Provider: p.Name(), Device: q.Device, Mode: q.Mode, Size: q.Size, Used: q.Used,
				MetadataSize: q.MetadataSize, MetadataUsed: q.MetadataUsed, NeedsCheck: q.NeedsCheck,
			}))
		}
	}
	return out, errors.Join(errs...)
}

// watched adds to a pool what the watch knows of it.
func (d *Daemon) watched(p api.Pool) api.Pool {
	if d.o.Watch == nil {
		return p
	}
	for _, w := range d.o.Watch.State().Pools {
		if w.Device == p.Device {
			p.Level, p.Reason = w.Level.String(), w.Reason
			p.Trend, p.MetadataTrend = trend(w.DataLeft), trend(w.MetadataLeft)
		}
	}
	return p
}

func trend(l pools.Left) api.Trend {
	switch {
	case !l.Known:
		return api.Trend{}
	case l.Time == forecast.Never:
		return api.Trend{Steady: true}
	}
	return api.Trend{FullIn: max(l.Time, 1)}
}

// Status is the daemon's state at a glance.
func (d *Daemon) Status() api.Status {
	s := api.Status{Version: d.o.Version, Started: d.started.UTC(), Waiting: int(d.turn.waiting.Load()), Guard: "ok"}
	if err := d.pingGuard(); err != nil {
		s.Guard = err.Error()
	}
	s.Problems, s.Busy = d.Problems(), d.occupations()
	d.mu.Lock()
	defer d.mu.Unlock()
	s.Sets, s.Recovered = len(d.contents.Sets), d.recovered
	if d.running != nil {
		s.Running, s.Phase = d.running.id, d.running.phase
	}
	return s
}

// Problems are what is wrong now, for people. It asks nobody.
func (d *Daemon) Problems() []string {
	now := append(d.troubles(), d.store.problems()...)
	d.mu.Lock()
	defer d.mu.Unlock()
	out := slices.Concat(d.problems, now)
	if d.unlisted != nil {
		out = append(out, strings.Split(d.unlisted.Error(), "\n")...)
	}
	for _, set := range slices.Sorted(maps.Keys(d.undone)) {
		out = append(out, fmt.Sprintf("set %s was not taken, and not undone either; what is left of it is removed as soon as nothing hangs, or before the next set: %s",
			set, strings.ReplaceAll(d.undone[set].Error(), "\n", "; ")))
	}
	out = append(out, d.notPutAway()...)
	out = append(out, elsewhere(d.contents.Elsewhere)...)
	for _, s := range d.contents.Doubled {
		out = append(out, fmt.Sprintf("%s is half-made, and left alone: set %s has more than one snapshot of a volume, so that a volume group was copied (lvremove the copy's)", s.Name, s.Set.ID))
	}
	for _, p := range d.o.Config.Problems {
		out = append(out, p.Error())
	}
	return out
}

// elsewhere tells of what other hosts have not finished, or have left: they alone know.
func elsewhere(snaps []provider.Snapshot) []string {
	by := map[string][]string{}
	for _, s := range snaps {
		host := cmp.Or(s.Host, s.Machine)
		by[host] = append(by[host], s.Name)
	}
	var out []string
	for _, host := range slices.Sorted(maps.Keys(by)) {
		slices.Sort(by[host])
		text := strings.Join(by[host][:min(len(by[host]), 10)], ", ")
		if n := len(by[host]) - 10; n > 0 {
			text += fmt.Sprintf(" and %d more", n)
		}
		out = append(out, fmt.Sprintf("unfinished snapshots of host %s are left to it: %s (lvremove them if that host is gone for good)", host, text))
	}
	return out
}

// troubles are what does not return, each once.
func (d *Daemon) troubles() []string {
	out := d.calls.problems()
	for _, p := range d.o.Providers {
		x, ok := p.(provider.Ailing)
		if !ok {
			continue
		}
		for _, text := range x.Problems() {
			if !slices.Contains(out, text) {
				out = append(out, text)
			}
		}
	}
	return out
}

func (d *Daemon) pingGuard() error {
	socket, _ := d.o.Host.GuardPaths()
	return guard.Ping(socket)
}

var _ api.Service = (*Daemon)(nil)
