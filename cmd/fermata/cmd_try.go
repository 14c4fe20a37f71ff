package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/client"
)

func writerTestCommand(a *app) *cobra.Command {
	r := api.WriterTestRequest{}
	var ifBusy string
	cmd := &cobra.Command{
		Use:   "test WRITER",
		Short: "Take a writer through all phases, without a snapshot",
		Long: `Take a writer through all phases: prepare, freeze, a hold of 200 ms, thaw, post. Its application really holds still
for that long; nothing is frozen and nothing is captured. The writer is told that it is a dry run.

Prints how long each phase took, and what a set would have been told. Exit status: 0 a set could claim application
consistency, 3 it would claim less, 1 or 4 it would fail, 75 busy.`,
		Example:           "  fermata writer test postgresql\n  fermata writer test postgresql --policy db",
		Args:              exactly(1, "the writer"),
		ValidArgsFunction: completeWriters,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			r.Writer = args[0]
			if r.FailIfBusy, err = parseIfBusy(ifBusy); err != nil {
				return usage(cmd, "%w", err)
			}
			return a.with(cmd, "test the writer", func(ctx context.Context, c *client.Client) error {
				progress, finish := a.progressLine()
				t, err := c.TestWriter(ctx, r, progress)
				finish()
				if err != nil {
					return err
				}
				a.status = testStatus(t)
				return a.printWriterTest(t)
			})
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&r.Policy, "policy", "", "as in a set of policy `P`: its volumes, limits and on_failure (default: all volumes)")
	ifBusyFlag(cmd, &ifBusy, "a set")
	_ = cmd.RegisterFlagCompletionFunc("policy", completePolicies)
	return cmd
}

// testStatus is the exit status that snapshot create would have.
func testStatus(t *api.WriterTest) int {
	switch {
	case t.Error != "":
		return api.Of(&api.Error{Class: t.Class, Err: errors.New(t.Error)}).ExitStatus()
	case t.Consistency != api.Application:
		return exitDegraded
	}
	return 0
}

func (a *app) printWriterTest(t *api.WriterTest) error {
	if a.json {
		return a.printJSON(t)
	}
	fmt.Fprintf(a.out, "writer %s: %s\n", printable(t.Writer.Name), printable(t.Writer.State))
	a.printWriterPhases(t.Writer.Phases)
	switch {
	case t.Error != "":
		fmt.Fprintf(a.out, "a set would fail (%s): %s\n", printable(string(t.Class)), printable(t.Error))
	default:
		fmt.Fprintf(a.out, "a set could claim %s consistency\n", printable(string(t.Consistency)))
	}
	for _, reason := range t.Reasons {
		fmt.Fprintf(a.out, "  because %s\n", printable(reason))
	}
	return nil
}
