package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/client"
)

func snapshotCommand(a *app) *cobra.Command {
	return noun(&cobra.Command{
		Use:   "snapshot VERB",
		Short: "Take, list, mount and delete snapshot sets",
		Long:  "Take, list, mount and delete snapshot sets. A set is named by its id, by the beginning of it, by latest, or by latest:POLICY.",
	},
		createCommand(a), snapshotListCommand(a), showCommand(a), deleteCommand(a), mountCommand(a), umountCommand(a), resizeCommand(a),
		verifyCommand(a), reportCommand(a), pinCommand(a), unpinCommand(a),
	)
}

var setList = list[api.Manifest]{
	id: func(m api.Manifest) string { return m.ID },
	columns: []column[api.Manifest]{
		{name: "id", help: "the set's id", value: func(m api.Manifest) string { return m.ID }},
		{name: "policy", help: "the policy it was taken by", value: func(m api.Manifest) string { return m.Policy }},
		{name: "created", help: "the instant that it shows", value: func(m api.Manifest) string { return instant(m.Created) }},
		{name: "consistency", help: "what it claims", value: func(m api.Manifest) string { return string(m.Consistency) }},
		{name: "state", help: "complete or damaged; cloning, with how much of it is done; pinned", value: setState},
		{name: "volumes", help: "how many volumes", right: true, value: func(m api.Manifest) string { return strconv.Itoa(len(m.Volumes)) }},
		{name: "mounted", help: "where it is mounted, if once; else how often", value: mounted},
		{name: "freeze_window", help: "how long filesystems were blocked", wide: true, right: true, value: func(m api.Manifest) string { return span(m.Window) }},
		{name: "duration", help: "how long the transaction took", wide: true, right: true, value: func(m api.Manifest) string { return span(m.Duration) }},
		{name: "writers", help: "the writers that took part", wide: true, value: func(m api.Manifest) string { return writerNames(m) }},
		{name: "reasons", help: "why the consistency is less than it could be", wide: true, value: func(m api.Manifest) string { return words(m.Reasons) }},
		{name: "clone_of", help: "the set that it is a full copy of", wide: true, value: func(m api.Manifest) string { return m.CloneOf }},
		{name: "host", help: "the host that took it", wide: true, value: func(m api.Manifest) string { return m.Host }},
		{name: "labels", help: "its labels", wide: true, value: func(m api.Manifest) string { return labelText(m.Labels) }},
	},
}

func setState(m api.Manifest) string {
	switch {
	case m.Pinned != nil:
		return string(m.State) + ", pinned"
	case m.Progress == nil:
		return string(m.State)
	}
	return fmt.Sprintf("%s %d%%", m.State, m.Progress.Percent())
}

func mounted(m api.Manifest) string {
	switch len(m.Mounts) {
	case 0:
		return ""
	case 1:
		return place(m.Mounts[0])
	}
	return plural(len(m.Mounts), "mount")
}

func snapshotListCommand(a *app) *cobra.Command {
	var policy string
	cmd := &cobra.Command{
		Use:     "list [--policy P]",
		Short:   "List the sets, oldest first",
		Example: "  fermata snapshot list --policy db -o id,consistency\n  fermata snapshot list --quiet",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if done, err := setList.check(a, cmd); done || err != nil {
				return err
			}
			return a.with(cmd, "list sets", func(ctx context.Context, c *client.Client) error {
				sets, err := c.Sets(ctx)
				if err != nil {
					return err
				}
				return setList.print(a, ofPolicy(sets, policy))
			})
		},
	}
	cmd.Flags().StringVar(&policy, "policy", "", "only sets of policy `P`")
	_ = cmd.RegisterFlagCompletionFunc("policy", completePolicies)
	return setList.flags(a, cmd)
}

func ofPolicy(sets []api.Manifest, policy string) []api.Manifest {
	if policy == "" {
		return sets
	}
	var some []api.Manifest
	for _, m := range sets {
		if m.Policy == policy {
			some = append(some, m)
		}
	}
	return some
}

func showCommand(a *app) *cobra.Command {
	var drawn bool
	cmd := &cobra.Command{
		Use:               "show SET [--timeline]",
		Short:             "Show everything about a set",
		Example:           "  fermata snapshot show latest:db --timeline\n  fermata snapshot show 20261120T1146 --json",
		Args:              exactly(1, "the set"),
		ValidArgsFunction: completeSets,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, "show the set", func(ctx context.Context, c *client.Client) error {
				m, err := c.Set(ctx, args[0])
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(m)
				}
				if drawn {
					a.printTimeline(m)
				} else {
					a.printManifest(m)
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&drawn, "timeline", false, "draw when everything in the set happened")
	return cmd
}

func deleteCommand(a *app) *cobra.Command {
	var noWait bool
	cmd := eachSet(a, &cobra.Command{
		Use: "delete SET...", Short: "Delete sets with all their snapshots", Example: "  fermata snapshot delete 20261120T114653_7f3a",
	}, (*client.Client).DeleteSet, "deleted")
	noWaitFlag(cmd, &noWait)
	wait := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !noWait {
			return wait(cmd, args)
		}
		return a.with(cmd, "delete", func(ctx context.Context, c *client.Client) error {
			ids, err := resolveAll(ctx, c, args)
			if err != nil {
				return err
			}
			jobs, failures := []uint64{}, []error(nil)
			for _, id := range ids {
				if job, err := c.StartDelete(ctx, id); err != nil {
					failures = append(failures, cannot("delete "+id, err))
				} else {
					jobs = append(jobs, job)
				}
			}
			return a.started(jobs, failures...)
		})
	}
	return cmd
}

// resolveAll finds every set before the first is touched: "latest latest" means one set, once.
func resolveAll(ctx context.Context, c *client.Client, refs []string) ([]string, error) {
	var ids []string
	seen := map[string]bool{}
	for _, ref := range refs {
		m, err := c.Set(ctx, ref)
		if err != nil {
			return nil, err
		}
		if !seen[m.ID] {
			ids = append(ids, m.ID)
		}
		seen[m.ID] = true
	}
	return ids, nil
}

func (a *app) printIDs(ids []string, what string) error {
	if a.json {
		return a.printJSON(ids)
	}
	for _, id := range ids {
		if a.quiet {
			fmt.Fprintln(a.out, id)
		} else {
			fmt.Fprintln(a.out, what, id)
		}
	}
	return nil
}

// place is where a snapshot can be read: its mount, or the device of a raw one.
func place(m api.Mount) string { return cmp.Or(m.Path, m.Link) }

var mountList = list[api.Mount]{
	id: place,
	columns: []column[api.Mount]{
		{name: "mount_point", help: "where the volume itself is mounted", value: func(m api.Mount) string { return m.MountPoint }},
		{name: "path", help: "where its snapshot is mounted, or a link to the device of a raw one", value: place},
		{name: "device", help: "the snapshot's device", value: func(m api.Mount) string { return m.Device }},
		{name: "link", help: "a stable link to it", wide: true, value: func(m api.Mount) string { return m.Link }},
		{name: "writable", help: "a throw-away copy that can be written to", value: func(m api.Mount) string { return yes(m.Writable) }},
	},
}

func mountCommand(a *app) *cobra.Command {
	var o api.MountOptions
	cmd := &cobra.Command{
		Use:               "mount SET [--writable] [--at DIR]",
		Short:             "Mount a set",
		Example:           "  fermata snapshot mount latest:db\n  fermata snapshot mount latest --writable --at /mnt/check",
		Args:              exactly(1, "the set"),
		ValidArgsFunction: completeSets,
		RunE: func(cmd *cobra.Command, args []string) error {
			if done, err := mountList.check(a, cmd); done || err != nil {
				return err
			}
			if o.Target != "" {
				dir, err := filepath.Abs(o.Target)
				if err != nil {
					return err
				}
				o.Target = dir
			}
			return a.with(cmd, "mount the set", func(ctx context.Context, c *client.Client) error {
				mounts, err := c.MountSet(ctx, args[0], o)
				if err != nil {
					return err
				}
				return mountList.print(a, mounts)
			})
		},
	}
	cmd.Flags().BoolVar(&o.Writable, "writable", false, "mount throw-away copies that can be written to; the set does not change")
	cmd.Flags().StringVar(&o.Target, "at", "", "directory `DIR` to mount below, structured as the live paths")
	return mountList.flags(a, cmd)
}

func umountCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "umount SET",
		Short:             "Unmount a set",
		Example:           "  fermata snapshot umount latest:db",
		Args:              exactly(1, "the set"),
		ValidArgsFunction: completeSets,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, "unmount the set", func(ctx context.Context, c *client.Client) error {
				m, err := c.Set(ctx, args[0])
				if err != nil {
					return err
				}
				if err := c.UmountSet(ctx, m.ID); err != nil {
					return err
				}
				return a.printIDs([]string{m.ID}, "unmounted")
			})
		},
	}
}
