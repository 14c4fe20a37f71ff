package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/client"
)

// inventory is the verb list over one of the daemon's inventories.
func inventory[T any](a *app, short string, l list[T], get func(*client.Client, context.Context) ([]T, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: short,
		Args:  exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if done, err := l.check(a, cmd); done || err != nil {
				return err
			}
			return a.with(cmd, "list "+cmd.Parent().Name()+"s", func(ctx context.Context, c *client.Client) error {
				rows, err := get(c, ctx)
				if err != nil {
					return err
				}
				return l.print(a, rows)
			})
		},
	}
	return l.flags(a, cmd)
}

var providerList = list[api.Provider]{
	id: func(p api.Provider) string { return p.Name },
	columns: []column[api.Provider]{
		{name: "name", help: "the provider's name", value: func(p api.Provider) string { return p.Name }},
		{name: "kind", help: "built-in, software or hardware", value: func(p api.Provider) string { return p.Kind }},
		{name: "version", help: "a plug-in's own", value: func(p api.Provider) string { return p.Version }},
		{name: "usable", help: "whether this host can use it", value: func(p api.Provider) string { return yes(p.Usable) }},
		{name: "capabilities", help: "what it can do beside taking snapshots", value: func(p api.Provider) string { return words(p.Capabilities) }},
		{name: "problem", help: "why it cannot", value: func(p api.Provider) string { return p.Problem }},
	},
}

func providerCommand(a *app) *cobra.Command {
	return noun(&cobra.Command{Use: "provider VERB", Short: "See the providers: what makes snapshots"},
		inventory(a, "List the providers", providerList, (*client.Client).Providers))
}

var poolList = list[api.Pool]{
	id: func(p api.Pool) string { return p.Name },
	columns: []column[api.Pool]{
		{name: "name", help: "the pool's name", value: func(p api.Pool) string { return p.Name }},
		{name: "provider", help: "which provider takes space from it", value: func(p api.Pool) string { return p.Provider }},
		{name: "mode", help: "rw, ro, out_of_data_space or fail", value: poolMode},
		{name: "size", help: "size of its data", right: true, value: func(p api.Pool) string { return size(p.Size) }},
		{name: "used", help: "used share of the data", right: true, value: func(p api.Pool) string { return share(p.Used, p.Size) }},
		{name: "metadata", help: "used share of the metadata", right: true, value: func(p api.Pool) string { return share(p.MetadataUsed, p.MetadataSize) }},
		{name: "free", help: "free space for data", right: true, value: func(p api.Pool) string { return size(p.Size - min(p.Used, p.Size)) }},
		{name: "full_in", help: "when it is full if it goes on like this, data or metadata", right: true, value: fullIn},
		{name: "level", help: "ok, warning, critical, exhausted or failed", value: func(p api.Pool) string { return p.Level }},
		{name: "reason", help: "why the level is not ok", wide: true, value: func(p api.Pool) string { return p.Reason }},
		{name: "metadata_size", help: "size of its metadata", wide: true, right: true, value: func(p api.Pool) string { return size(p.MetadataSize) }},
		{name: "device", help: "its device-mapper name", wide: true, value: func(p api.Pool) string { return p.Device }},
	},
}

// fullIn is the sooner of both forecasts: - if neither grows, ? if nobody knows.
func fullIn(p api.Pool) string {
	t, m := p.Trend, p.MetadataTrend
	switch {
	case t.FullIn > 0 && (m.FullIn == 0 || t.FullIn <= m.FullIn):
		return roughly(t.FullIn)
	case m.FullIn > 0:
		return roughly(m.FullIn)
	case t.Steady && m.Steady:
		return "-"
	}
	return "?"
}

func poolMode(p api.Pool) string {
	if p.NeedsCheck {
		return p.Mode + ", needs check"
	}
	return p.Mode
}
