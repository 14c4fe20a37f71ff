package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/client"
)

func poolCommand(a *app) *cobra.Command {
	return noun(&cobra.Command{Use: "pool VERB", Short: "See the pools, where snapshot space comes from, and extend them"},
		inventory(a, "List the pools", poolList, (*client.Client).Pools), poolShowCommand(a), poolExtendCommand(a))
}

func poolShowCommand(a *app) *cobra.Command {
	var shares bool
	cmd := &cobra.Command{
		Use:   "show POOL",
		Short: "Tell of one pool: level, forecast, what was done about it, and the snapshots in it",
		Long: `Tell of one pool: how full it is, at which level, when it is full if it goes on like this, what was done about it of late,
and which snapshots live in it. With --shares also what each of them has in the pool, and what its deletion would give back:
the pool's metadata are read for that, by thin_ls of thin-provisioning-tools, which takes a while for a large pool.`,
		Example:           "  fermata pool show vg/pool\n  fermata pool show vg/pool --shares",
		Args:              exactly(1, "the pool"),
		ValidArgsFunction: completePools,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, "show the pool", func(ctx context.Context, c *client.Client) error {
				get := c.ShowPool
				if shares {
					get = c.MeasurePool
				}
				p, err := get(ctx, args[0])
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(p)
				}
				a.printPool(p)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&shares, "shares", false, "tell what each snapshot has in the pool")
	return cmd
}

// printPool prints a pool for people.
func (a *app) printPool(p *api.PoolDetails) {
	fill := func(used, total uint64, t api.Trend) string {
		return fmt.Sprintf("%s of %s (%s)%s", size(used), size(total), share(used, total), lasts(t))
	}
	level := p.Level
	if p.Reason != "" {
		level += ": " + p.Reason
	}
	if level != "" && !p.Since.IsZero() {
		level += ", since " + p.Since.Local().Format(time.DateTime)
	}
	rows := [][]string{
		{"pool", p.Name}, {"device", p.Device}, {"mode", poolMode(p.Pool)}, {"level", level},
		{"data", fill(p.Used, p.Size, p.Trend)}, {"metadata", fill(p.MetadataUsed, p.MetadataSize, p.MetadataTrend)},
	}
	if g := p.Group; g != nil {
		rows = append(rows, []string{"group", groupText(*g)})
	}
	if p.Extension != "" {
		rows = append(rows, []string{"extended by", p.Extension})
	}
	printTable(a, nil, nil, rows)
	if len(p.Acts) > 0 {
		fmt.Fprintln(a.out, "\nof late")
		var cells [][]string
		for _, x := range p.Acts {
			cells = append(cells, []string{x.Time.Local().Format(time.DateTime), x.Act, x.Outcome, x.Detail})
		}
		printIndented(a, "  ", nil, nil, cells)
	}
	if len(p.Snapshots) > 0 {
		fmt.Fprintln(a.out, "\nsnapshots")
		printIndented(a, "  ", []string{"SET", "POLICY", "VOLUME", "MAPPED", "OWN"}, []bool{false, false, false, true, true}, shareRows(p.Snapshots))
	}
}

// groupText tells of a pool's volume group.
func groupText(g api.Group) string {
	text := fmt.Sprintf("%s, %s of %s free", g.Name, size(g.Free), size(g.Size))
	switch {
	case g.Problem != "":
		return g.Name + ", which cannot be read: " + g.Problem
	case g.Reason != "":
		text += ", " + g.Level + ": " + g.Reason
	}
	return text
}

func shareRows(snaps []api.PoolSnapshot) [][]string {
	var cells [][]string
	for _, s := range snaps {
		row := []string{s.Set, s.Policy, s.Volume, "", ""}
		if s.Share != nil {
			row[3], row[4] = size(s.Share.Mapped), size(s.Share.Own)
		}
		cells = append(cells, row)
	}
	return cells
}

// lasts says when something is full, if it grows.
func lasts(t api.Trend) string {
	switch {
	case t.FullIn > 0:
		return ", full in " + roughly(t.FullIn)
	case t.Steady:
		return ", steady"
	}
	return ""
}

func poolExtendCommand(a *app) *cobra.Command {
	var by string
	var metadata bool
	cmd := &cobra.Command{
		Use:   "extend POOL",
		Short: "Extend a thin pool from its volume group",
		Long: `Extend a thin pool from its volume group by a size or by a share of what it has, 20% if nothing else is said: its data, or with
--metadata its metadata. Limits of the configuration do not count for what is asked for by hand.`,
		Example:           "  fermata pool extend vg/pool --by 50G\n  fermata pool extend vg/pool --by 100% --metadata",
		Args:              exactly(1, "the pool"),
		ValidArgsFunction: completePools,
		RunE: func(cmd *cobra.Command, args []string) error {
			if done, err := poolList.check(a, cmd); done || err != nil {
				return err
			}
			o, err := extendOptions(by)
			if err != nil {
				return usage(cmd, "--by: %w", err)
			}
			o.Metadata = metadata
			return a.with(cmd, "extend the pool", func(ctx context.Context, c *client.Client) error {
				p, err := c.ExtendPool(ctx, args[0], o)
				if err != nil {
					return err
				}
				return poolList.print(a, []api.Pool{*p})
			})
		},
	}
	cmd.Flags().StringVar(&by, "by", "20%", "by how much: `SIZE` or PERCENT%")
	cmd.Flags().BoolVar(&metadata, "metadata", false, "extend the metadata")
	return poolList.flags(a, cmd)
}

// extendOptions reads a size, or a share of what there is.
func extendOptions(by string) (o api.ExtendOptions, err error) {
	s, err := config.ParseSpace(by)
	switch {
	case err != nil:
		return o, err
	case s == config.Space{}:
		return o, fmt.Errorf("%s is nothing: write it like 20%% or 10G", strings.TrimSpace(by))
	}
	return api.ExtendOptions{Size: uint64(s.Size), Percent: s.Percent}, nil
}

func completePools(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return completeNames(cmd, (*client.Client).Pools, func(p api.Pool) string { return p.Name })
}
