package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/daemon/client"
)

func pinCommand(a *app) *cobra.Command {
	return eachSet(a, &cobra.Command{
		Use:   "pin SET...",
		Short: "Keep sets, whatever their policy's retention says",
		Long: `Keep sets, whatever the retention of their policy says and however full their pool is, until they are unpinned.
A pinned set cannot be deleted.`,
		Example: "  fermata snapshot pin latest:db",
	}, (*client.Client).PinSet, "pinned")
}

func unpinCommand(a *app) *cobra.Command {
	return eachSet(a, &cobra.Command{
		Use: "unpin SET...", Short: "Let sets go that were pinned", Example: "  fermata snapshot unpin latest:db",
	}, (*client.Client).UnpinSet, "unpinned")
}

// eachSet is a command that does one thing to each of the sets that it names, after all have been found.
func eachSet(a *app, cmd *cobra.Command, do func(*client.Client, context.Context, string) error, done string) *cobra.Command {
	cmd.Args = atLeastOne("the set")
	cmd.ValidArgsFunction = completeSets
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		verb := cmd.Name()
		return a.with(cmd, verb, func(ctx context.Context, c *client.Client) error {
			ids, err := resolveAll(ctx, c, args)
			if err != nil {
				return err
			}
			worked, failures := []string{}, []error(nil)
			progress, finish := a.progressLine()
			for i, id := range ids {
				if progress != nil {
					progress(fmt.Sprintf("%s %s %d%%", verb, id, 100*i/len(ids)))
				}
				if err := do(c, ctx, id); err != nil {
					failures = append(failures, cannot(verb+" "+id, err))
					continue
				}
				worked = append(worked, id)
			}
			finish()
			return errors.Join(append(failures, a.printIDs(worked, done))...)
		})
	}
	cmd.Flags().BoolVarP(&a.quiet, "quiet", "q", false, "print ids only")
	return cmd
}
