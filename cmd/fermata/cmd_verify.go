package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/client"
)

func verifyCommand(a *app) *cobra.Command {
	var noWait bool
	cmd := &cobra.Command{
		Use:   "verify SET",
		Short: "Look whether a set can be used",
		Long: `Look whether a set can be used, on throw-away copies of its snapshots: each writer that can starts its application on
them, and the filesystems that no writer vouches for are looked at by their own checkers. The result is kept in the
manifest. Exit status 1: something is damaged, or nothing could be checked.`,
		Example:           "  fermata snapshot verify latest:db",
		Args:              exactly(1, "the set"),
		ValidArgsFunction: completeSets,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, "verify the set", func(ctx context.Context, c *client.Client) error {
				if noWait {
					job, err := c.StartVerify(ctx, args[0])
					if err != nil {
						return err
					}
					return a.started([]uint64{job})
				}
				progress, finish := a.progressLine()
				v, err := c.VerifySet(ctx, args[0], progress)
				finish()
				if err != nil {
					return err
				}
				if a.json {
					err = a.printJSON(v)
				} else {
					a.printRows(checkRows(v))
				}
				if err == nil && !v.OK {
					err = api.Errorf(api.Failed, "%s", unsound(v))
				}
				return err
			})
		},
	}
	noWaitFlag(cmd, &noWait)
	return cmd
}

// unsound says what is wrong with a set that did not pass.
func unsound(v *api.Verification) string {
	if len(v.Checks) == 0 {
		return "nothing could be checked: no writer of the set can verify, and it has no filesystem"
	}
	failed := 0
	for _, c := range v.Checks {
		if c.Error != "" {
			failed++
		}
	}
	return fmt.Sprintf("%d of %s failed", failed, plural(len(v.Checks), "check"))
}

// printRows prints a table whose first row is the head.
func (a *app) printRows(rows [][]string) {
	var head []string
	for _, name := range rows[0] {
		head = append(head, strings.ToUpper(name))
	}
	printTable(a, head, nil, rows[1:])
}

func checkRows(v *api.Verification) [][]string {
	rows := [][]string{{"checked", "took", "result"}}
	for _, c := range v.Checks {
		what := "filesystem of " + c.MountPoint
		switch {
		case c.Writer != "":
			what = "writer " + c.Writer
		case c.MountPoint == "":
			what = "the set"
		}
		rows = append(rows, []string{what, span(c.Duration), cmp.Or(c.Error, "good")})
	}
	return rows
}

func reportCommand(a *app) *cobra.Command {
	var o api.ReportOptions
	cmd := &cobra.Command{
		Use:   "report SET --outcome ok|failed",
		Short: "Say how the backup went that was made of a set",
		Long: `Say how the backup went that was made of a set, and tell the set's writers: those that truncate logs do so only now, and
only after a good backup. A set is reported on once; --force tells the writers again. Exit status 1: a writer that was to be
told could not be.`,
		Example:           "  fermata snapshot report 20261120T114653_7f3a --outcome ok",
		Args:              exactly(1, "the set"),
		ValidArgsFunction: completeSets,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.Outcome != api.BackupOK && o.Outcome != api.BackupFailed {
				return usage(cmd, "--outcome %s or --outcome %s is needed", api.BackupOK, api.BackupFailed)
			}
			return a.with(cmd, "report on the set", func(ctx context.Context, c *client.Client) error {
				r, err := c.ReportSet(ctx, args[0], o)
				if err != nil {
					return err
				}
				if a.json {
					err = a.printJSON(r)
				} else {
					a.printRows(toldRows(r))
				}
				for _, w := range r.Writers {
					if err == nil && w.Error != "" {
						err = api.Errorf(api.Failed, "writer %s was not told: %s", w.Writer, w.Error)
					}
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&o.Outcome, "outcome", "", "how the backup went: `ok|failed`")
	cmd.Flags().BoolVar(&o.Force, "force", false, "tell the writers again")
	_ = cmd.RegisterFlagCompletionFunc("outcome", cobra.FixedCompletions([]string{api.BackupOK, api.BackupFailed}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func toldRows(r *api.Report) [][]string {
	rows := [][]string{{"writer", "took", "told"}}
	for _, w := range r.Writers {
		said := cmp.Or(w.Error, r.Outcome)
		if w.Skipped != "" {
			said = "not told: " + w.Skipped
		}
		rows = append(rows, []string{w.Writer, span(w.Duration), said})
	}
	return rows
}
