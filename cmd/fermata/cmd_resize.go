package main

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/client"
)

var cowList = list[api.Snapshot]{
	id: func(s api.Snapshot) string { return s.Name },
	columns: []column[api.Snapshot]{
		{name: "volume", help: "the origin", value: func(s api.Snapshot) string { return s.Volume }},
		{name: "snapshot", help: "its snapshot", value: func(s api.Snapshot) string { return s.Name }},
		{name: "size", help: "size of the copy-on-write area", right: true, value: func(s api.Snapshot) string { return size(cowOf(s).Size) }},
		{name: "used", help: "how much of it is used", right: true, value: cowUse},
	},
}

func cowOf(s api.Snapshot) api.COW {
	if s.COW == nil {
		return api.COW{}
	}
	return *s.COW
}

// cowUse is how full a snapshot's copy-on-write area is; of one that has none it is empty.
func cowUse(s api.Snapshot) string {
	switch {
	case s.COWUnknown != "":
		return "unknown"
	case s.COW == nil:
		return ""
	}
	return share(s.COW.Used, s.COW.Size)
}

func resizeCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resize SET [VOLUME] SIZE|+SIZE",
		Short: "Give the snapshots of a set larger copy-on-write areas",
		Long: `Give the snapshots of a set larger copy-on-write areas: all of them, or that of one volume (its name, mount point or
device). With + so much is added to what they have. An area never shrinks.`,
		Example:           "  fermata snapshot resize latest:db +2G\n  fermata snapshot resize 20261120T1146 /srv/db 10G",
		ValidArgsFunction: completeResize,
		RunE: func(cmd *cobra.Command, args []string) error {
			if done, err := cowList.check(a, cmd); done || err != nil {
				return err
			}
			o, err := resizeOptions(cmd, args)
			if err != nil {
				return err
			}
			return a.with(cmd, "resize the set", func(ctx context.Context, c *client.Client) error {
				volumes, err := c.ResizeSet(ctx, args[0], o)
				if err != nil {
					return err
				}
				return cowList.print(a, volumes)
			})
		},
	}
	return cowList.flags(a, cmd)
}

// resizeOptions reads [VOLUME] SIZE|+SIZE after the set.
func resizeOptions(cmd *cobra.Command, args []string) (o api.ResizeOptions, err error) {
	switch len(args) {
	case 0, 1:
		return o, usage(cmd, "the set and the size are needed")
	case 2:
	case 3:
		o.Volume = args[1]
		if strings.HasPrefix(o.Volume, ".") { // a relative path; vg/lv is none
			if o.Volume, err = filepath.Abs(o.Volume); err != nil {
				return o, err
			}
		}
	default:
		return o, usage(cmd, "there is an argument too many: %q", args[3])
	}
	text, grow := strings.CutPrefix(args[len(args)-1], "+")
	n, err := config.ParseSize(text)
	if err == nil && n == 0 {
		return o, usage(cmd, "a size of 0 makes no sense")
	}
	if err != nil {
		return o, usage(cmd, "%w", err)
	}
	o.Size, o.Grow = uint64(n), grow
	return o, nil
}

// completeResize gives sets, and then the volumes of the set.
func completeResize(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return completeSets(cmd, args, word)
	case 1:
		return complete(cmd, func(ctx context.Context, c *client.Client) ([]string, error) {
			m, err := c.Set(ctx, args[0])
			if err != nil {
				return nil, err
			}
			var words []string
			for _, v := range m.Volumes {
				if v.COW != nil {
					words = append(words, v.Volume)
				}
			}
			return words, nil
		})
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}
