package main

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/plugin"
)

// plugins starts the plug-ins that are configured, all at once, and sorts them in the order of choice. Those that cannot be
// used come with their problem.
func plugins(ctx context.Context, c *config.Config, o plugin.Options) (usable []provider.Provider, unusable []api.Provider) {
	var all sync.WaitGroup
	var mu sync.Mutex
	for _, p := range c.Providers {
		if p.Plugin == nil || !p.Enabled {
			continue
		}
		all.Go(func() {
			started, err := plugin.Start(ctx, spec(p), o)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				o.Log.Warn("a plug-in cannot be used", "file", p.File, "error", err)
				unusable = append(unusable, api.Provider{Name: p.Name, Kind: p.Plugin.Kind, Problem: err.Error()})
				return
			}
			usable = append(usable, started)
		})
	}
	all.Wait()
	slices.SortFunc(usable, func(a, b provider.Provider) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name(), b.Name()))
	})
	slices.SortFunc(unusable, func(a, b api.Provider) int { return cmp.Compare(a.Name, b.Name) })
	return usable, unusable
}

// rank is a provider's place in the order of choice.
func rank(p provider.Provider) int {
	return slices.Index([]provider.Kind{provider.Hardware, provider.Software, provider.BuiltIn}, p.Kind())
}

func spec(p config.Provider) plugin.Spec {
	x := p.Plugin
	return plugin.Spec{
		Name: p.Name, Command: x.Command, Kind: provider.Kind(x.Kind), User: x.User,
		Limits: plugin.Limits{Start: x.Timeouts.Start, Query: x.Timeouts.Query, Change: x.Timeouts.Change, Window: x.Timeouts.Window},
	}
}

// closePlugins lets the processes go that are kept.
func closePlugins(all []provider.Provider, log *slog.Logger) {
	for _, p := range all {
		if c, ok := p.(io.Closer); ok {
			if err := c.Close(); err != nil {
				log.Warn("plug-in", "error", err)
			}
		}
	}
}
