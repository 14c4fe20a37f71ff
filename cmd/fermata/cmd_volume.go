package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/client"
)

var volumeList = list[api.Volume]{
	id: func(v api.Volume) string { return v.Name },
	columns: []column[api.Volume]{
		{name: "name", help: "the volume's name", value: func(v api.Volume) string { return v.Name }},
		{name: "mounted_on", help: "its mount points", value: func(v api.Volume) string { return words(v.MountPoints) }},
		{name: "fs", help: "its filesystem", value: func(v api.Volume) string { return v.FSType }},
		{name: "size", help: "its size", right: true, value: func(v api.Volume) string { return size(v.Size) }},
		{name: "provider", help: "which provider would take it", value: func(v api.Volume) string { return v.Provider }},
		{name: "freezable", help: "whether its filesystem can be frozen", value: func(v api.Volume) string { return yes(v.Freezable) }},
		{name: "problem", help: "why it cannot be taken, or frozen", value: func(v api.Volume) string { return v.Problem }},
		{name: "device", help: "its device", wide: true, value: func(v api.Volume) string { return v.Device }},
		{name: "disks", help: "the disks below it", wide: true, value: func(v api.Volume) string { return words(v.Disks) }},
		{name: "refused", help: "why other providers would not take it", wide: true, value: refusals},
		{name: "unfrozen", help: "why it cannot be frozen", wide: true, value: func(v api.Volume) string { return v.Unfrozen }},
	},
}

func volumeCommand(a *app) *cobra.Command {
	return noun(&cobra.Command{Use: "volume VERB", Short: "See the volumes that can be in a set, and what they rest on"},
		volumeListCommand(a), volumeShowCommand(a))
}

func volumeListCommand(a *app) *cobra.Command {
	var tree, flat, explain bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the volumes: as trees down to the disks on a terminal, otherwise one a line",
		Example: `  fermata volume list --tree
  fermata volume list -o name,provider,disks`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if done, err := volumeList.check(a, cmd); done || err != nil {
				return err
			}
			switch {
			case tree && flat:
				return usage(cmd, "--tree and --flat cannot go together")
			case (tree || explain) && (a.columns != "" || a.quiet || flat):
				return usage(cmd, "--tree and --explain cannot go with --flat, --columns or --quiet")
			}
			tree = tree || explain || isTerminal(a.out) && !flat && a.columns == "" && !a.quiet
			return a.with(cmd, "list volumes", func(ctx context.Context, c *client.Client) error {
				volumes, err := c.Volumes(ctx)
				if err != nil {
					return err
				}
				if !tree || a.json {
					return volumeList.print(a, volumes)
				}
				a.printTrees(volumes, explain)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&tree, "tree", false, "print trees, not on a terminal either")
	cmd.Flags().BoolVar(&flat, "flat", false, "print one volume a line, on a terminal too")
	cmd.Flags().BoolVar(&explain, "explain", false, "say of each volume why which provider takes it, and what freezing it would do")
	return volumeList.flags(a, cmd)
}

func volumeShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show PATH",
		Short: "Show a volume, named by a mount point, a device or its name, and what it rests on",
		Example: `  fermata volume show /srv
  fermata volume show vg/data`,
		Args:              exactly(1, "the volume"),
		ValidArgsFunction: completeVolumes,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, "show the volume", func(ctx context.Context, c *client.Client) error {
				volumes, err := c.Volumes(ctx)
				if err != nil {
					return err
				}
				i := slices.IndexFunc(volumes, called(args[0]))
				if i < 0 {
					return api.Errorf(api.NotFound, "there is no volume %q; see fermata volume list", args[0])
				}
				if a.json {
					return a.printJSON(volumes[i])
				}
				a.printVolume(volumes[i])
				return nil
			})
		},
	}
}

// called says which volume is meant: by its name, or by a path of a mount point or a device, links followed.
func called(name string) func(api.Volume) bool {
	path, number := name, ""
	if abs, err := filepath.Abs(name); err == nil {
		path = abs
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if info, err := os.Stat(path); err == nil && info.Mode()&(fs.ModeDevice|fs.ModeCharDevice) == fs.ModeDevice {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			number = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
	}
	return func(v api.Volume) bool {
		return v.Name == name || v.Device == name || slices.Contains(v.MountPoints, path) || number != "" && slices.Contains(devicesOf(v), number)
	}
}

// devicesOf are the numbers of the devices that hold a volume: those at the top of its tree.
func devicesOf(v api.Volume) []string {
	if v.Stack == nil {
		return nil
	}
	top := []api.Node{*v.Stack}
	for len(top) > 0 && (top[0].Kind == api.NodeMount || top[0].Kind == api.NodeFilesystem) {
		top = top[0].Below
	}
	var numbers []string
	for _, n := range top {
		numbers = append(numbers, n.Device)
	}
	return numbers
}

func completeVolumes(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return complete(cmd, func(ctx context.Context, c *client.Client) ([]string, error) {
		volumes, err := c.Volumes(ctx)
		var words []string
		for _, v := range volumes {
			words = append(append(words, v.Name), v.MountPoints...)
		}
		return words, err
	})
}
