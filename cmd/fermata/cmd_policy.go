package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/client"
)

var policyList = list[api.Policy]{
	id: func(p api.Policy) string { return p.Name },
	columns: []column[api.Policy]{
		{name: "name", help: "the policy's name", value: func(p api.Policy) string { return p.Name }},
		{name: "volumes", help: "what its sets are of", value: func(p api.Policy) string { return words(p.Volumes) }},
		{name: "writers", help: "who holds still", value: func(p api.Policy) string { return words(p.Writers) }},
		{name: "sets", help: "how many sets of it exist", right: true, value: func(p api.Policy) string { return strconv.Itoa(p.Sets) }},
		{name: "last", help: "when the newest good one was taken", value: func(p api.Policy) string { return instant(p.Last) }},
		{name: "prunes", help: "whether its retention drops sets", value: func(p api.Policy) string { return yes(p.Prunes) }},
		{name: "schedule", help: "when it runs by itself", value: func(p api.Policy) string { return words(p.Schedule) }},
		{name: "problem", help: "why it is disabled", value: func(p api.Policy) string { return p.Problem }},
		{name: "last_run", help: "how the last request for a set ended, since the daemon started", wide: true, value: lastRequest},
		{name: "consistency", help: "the least that is acceptable", wide: true, value: func(p api.Policy) string { return p.Consistency }},
		{name: "method", help: "copy-on-write or clone", wide: true, value: func(p api.Policy) string { return p.Method }},
		{name: "description", help: "what it is for", wide: true, value: func(p api.Policy) string { return p.Description }},
	},
}

func lastRequest(p api.Policy) string {
	if p.LastRun == nil {
		return ""
	}
	return p.LastRun.Outcome
}

var verdictList = list[api.Verdict]{
	id: func(v api.Verdict) string { return v.ID },
	columns: []column[api.Verdict]{
		{name: "id", help: "the set's id", value: func(v api.Verdict) string { return v.ID }},
		{name: "created", help: "the instant that it shows", value: func(v api.Verdict) string { return instant(v.Created) }},
		{name: "verdict", help: "kept, to drop, dropped or failed", value: verdict},
		{name: "reasons", help: "why", value: verdictReasons},
	},
}

func verdict(v api.Verdict) string {
	switch {
	case v.Keep:
		return "kept"
	case v.Deleted:
		return "dropped"
	case v.Error != "":
		return "failed"
	}
	return "to drop"
}

func verdictReasons(v api.Verdict) string {
	if v.Error != "" {
		return v.Error
	}
	return words(v.Reasons)
}

func policyCommand(a *app) *cobra.Command {
	return noun(&cobra.Command{Use: "policy VERB", Short: "See the policies, run one, drop the sets that one does not keep, have systemd run them"},
		inventory(a, "List the policies", policyList, (*client.Client).Policies), policyRunCommand(a), policyPruneCommand(a), policyApplyCommand(a))
}

func policyPruneCommand(a *app) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "prune POLICY",
		Short: "Delete the sets of a policy that its retention does not keep",
		Long: `Delete the sets of a policy that its retention does not keep, and say for each set why it is kept or dropped.
What is mounted, open otherwise, or being copied is kept until it no longer is.

Exit status: 1 if a set could not be deleted.`,
		Example:           "  fermata policy prune db --dry-run",
		Args:              exactly(1, "the policy"),
		ValidArgsFunction: completePolicies,
		RunE: func(cmd *cobra.Command, args []string) error {
			if done, err := verdictList.check(a, cmd); done || err != nil {
				return err
			}
			return a.with(cmd, "prune policy "+args[0], func(ctx context.Context, c *client.Client) error {
				do := c.PrunePolicy
				if dryRun {
					do = c.PlanPrune
				}
				verdicts, err := do(ctx, args[0])
				if err != nil {
					return err
				}
				if err := verdictList.print(a, verdicts); err != nil {
					return err
				}
				return failedVerdicts(verdicts)
			})
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be deleted, and delete nothing")
	return verdictList.flags(a, cmd)
}

// failedVerdicts is an error if a set could not be deleted.
func failedVerdicts(verdicts []api.Verdict) error {
	failed := 0
	for _, v := range verdicts {
		if v.Error != "" {
			failed++
		}
	}
	if failed == 0 {
		return nil
	}
	return api.Errorf(api.Failed, "%s could not be deleted", plural(failed, "set"))
}

// policyRunCommand takes a set and then drops what the policy does not keep: what a timer calls.
func policyRunCommand(a *app) *cobra.Command {
	var ifBusy string
	var jitter time.Duration
	cmd := &cobra.Command{
		Use:   "run POLICY",
		Short: "Take a set by a policy, then delete those that its retention does not keep",
		Long: `Take a set by a policy, then delete those that its retention does not keep: what cron or a timer calls. Nothing is
deleted before the new set is finished. Prints the new set's id.

Exit status: as for snapshot create; 1 also if a set could not be deleted.`,
		Example:           "  fermata policy run db",
		Args:              exactly(1, "the policy"),
		ValidArgsFunction: completePolicies,
		RunE: func(cmd *cobra.Command, args []string) error {
			fail, err := parseIfBusy(ifBusy)
			if err != nil {
				return usage(cmd, "%w", err)
			}
			if jitter < 0 || jitter > maxJitter {
				return usage(cmd, "--jitter %s is not between 0 and %s", jitter, maxJitter)
			}
			if err := pause(cmd.Context(), jitter); err != nil {
				return cannot("run policy "+args[0], err)
			}
			return a.with(cmd, "run policy "+args[0], func(ctx context.Context, c *client.Client) error {
				r := api.Request{Policy: args[0], FailIfBusy: fail}
				progress, finish := a.progressLine()
				m, err := c.CreateSet(ctx, r, progress)
				finish()
				if err != nil {
					return err
				}
				a.status = createStatus(r, m)
				if a.json {
					err = a.printJSON(m)
				} else {
					_, err = fmt.Fprintln(a.out, m.ID)
				}
				verdicts, pruneErr := c.PrunePolicy(ctx, args[0])
				return errors.Join(err, pruneErr, failedVerdicts(verdicts))
			})
		},
	}
	ifBusyFlag(cmd, &ifBusy, "a set")
	cmd.Flags().DurationVar(&jitter, "jitter", 0, "begin up to `TIME` later, so that hosts which share storage do not all begin at once")
	return cmd
}

const maxJitter = 24 * time.Hour

// pause waits for a random part of a time.
func pause(ctx context.Context, most time.Duration) error {
	if most == 0 {
		return nil
	}
	t := time.NewTimer(rand.N(most))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return api.Errorf(api.Cancelled, "cancelled while it waited for its time: %w", context.Cause(ctx))
	}
}
