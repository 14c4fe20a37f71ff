package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/client"
)

// quiesceFlags are the options of quiesce as they are typed.
type quiesceFlags struct {
	request     api.QuiesceRequest
	consistency string
	ifBusy      string
	detach      bool
}

func quiesceCommand(a *app) *cobra.Command {
	var f quiesceFlags
	cmd := &cobra.Command{
		Use:   "quiesce (--policy P | MOUNTPOINT-OR-DEVICE...) (-- CMD ARG... | --detach)",
		Short: "Hold volumes and writers still while a command runs, without a snapshot",
		Long: `Hold volumes and writers still while CMD runs, for storage that is snapshotted from outside: cloud disks,
arrays, virtual machines. CMD runs as the caller, while everything is held, and for --for at most: then
everything is released, whatever CMD does.

CMD must not write to what is held: it would wait for the release, and the hold would be over before its
work was done. What it writes to its output is kept in memory until then (1 MiB of each stream), except on a
terminal.

Exit status: that of CMD; 3 if that is 0 and the hold claims less consistency than it could; 4 if the hold was
broken or not released in time, whatever CMD's status; 1 failed, 2 usage, 75 busy: CMD was not run.`,
		Example: `  fermata quiesce --policy db --for 20s -- /usr/local/sbin/snapshot-the-array
  fermata quiesce /srv/db --writer postgresql -- aws ec2 create-snapshot --volume-id vol-0123
  id=$(fermata quiesce --policy db --detach) && snapshot-the-array; fermata release "$id"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			volumes, command := atDash(cmd, args)
			r, err := f.resolve(volumes, command)
			if err != nil {
				return usage(cmd, "%w", err)
			}
			return a.with(cmd, "quiesce", func(ctx context.Context, c *client.Client) error {
				if f.detach {
					return a.quiesceDetached(ctx, c, r)
				}
				return a.quiesce(ctx, c, r, command)
			})
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.request.Policy, "policy", "", "the policy `P` that says which volumes and writers")
	fs.StringArrayVar(&f.request.Writers, "writer", nil, "ask writer `W` to hold (repeatable; without a policy)")
	fs.BoolVar(&f.request.WritersOnly, "writers-only", false, "hold writers only: somebody else freezes the filesystems, after them")
	fs.DurationVar(&f.request.For, "for", 30*time.Second, "hold for `TIME` at most (1m at most)")
	fs.StringVar(&f.consistency, "consistency", "", "the least `LEVEL` that is acceptable: application, filesystem or crash")
	ifBusyFlag(cmd, &f.ifBusy, "a set")
	fs.BoolVar(&f.detach, "detach", false, "run nothing: return when everything is held, and print the number for fermata release")
	_ = cmd.RegisterFlagCompletionFunc("policy", completePolicies)
	_ = cmd.RegisterFlagCompletionFunc("consistency", cobra.FixedCompletions([]string{"application", "filesystem", "crash"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("writer", completeWriters)
	return cmd
}

// resolve makes the request of the options and arguments; its errors are errors of usage.
func (f quiesceFlags) resolve(volumes, command []string) (r api.QuiesceRequest, err error) {
	r = f.request
	switch {
	case f.detach && len(command) > 0:
		return r, fmt.Errorf("--detach runs nothing: %q is too much", command[0])
	case !f.detach && len(command) == 0:
		return r, fmt.Errorf("what to run is missing: -- CMD, or --detach")
	case r.For <= 0 || r.For > api.MaxHold:
		return r, fmt.Errorf("--for %s is not between 0 and %s", r.For, api.MaxHold)
	case r.Policy != "" && len(volumes) > 0:
		return r, fmt.Errorf("--policy says which volumes: %q is too much", volumes[0])
	case r.Policy != "" && len(r.Writers) > 0:
		return r, fmt.Errorf("--policy says which writers: --writer is too much")
	case r.Policy == "" && len(volumes) == 0 && !r.WritersOnly:
		return r, fmt.Errorf("what to hold is missing: --policy, or mount points or devices")
	case r.WritersOnly && r.Policy == "" && len(r.Writers) == 0:
		return r, fmt.Errorf("--writers-only takes --policy or --writer")
	}
	if len(command) > 0 {
		if _, err := exec.LookPath(command[0]); err != nil { // nothing need be held to learn that
			return r, err
		}
	}
	if r.Volumes, err = volumePaths(volumes); err != nil {
		return r, err
	}
	if r.Consistency, err = parseConsistency(f.consistency); err != nil {
		return r, err
	}
	r.FailIfBusy, err = parseIfBusy(f.ifBusy)
	return r, err
}

// quiesce runs a command while everything is held. From held to released this program writes nothing: its output may go to
// what is held.
func (a *app) quiesce(ctx context.Context, c *client.Client, r api.QuiesceRequest, command []string) error {
	run := &heldCommand{argv: command, out: keep(a.out), err: keep(a.err)}
	m, err := c.Quiesce(ctx, r, run.run, nil)
	run.out.flush()
	run.err.flush()
	switch {
	case err != nil:
		return err
	case run.failure != nil:
		return run.failure
	}
	if a.status = run.status; run.status == 0 {
		a.status = createStatus(api.Request{Consistency: r.Consistency}, m)
	}
	return a.printHeld(m)
}

// quiesceDetached prints the number before anything is held, for the same reason.
func (a *app) quiesceDetached(ctx context.Context, c *client.Client, r api.QuiesceRequest) error {
	return c.StartQuiesce(ctx, r, func(number uint64) { fmt.Fprintln(a.out, number) })
}

// printHeld says on standard error, for standard output is the command's, what was held.
func (a *app) printHeld(m *api.Manifest) error {
	if a.json {
		return printJSON(a.err, m)
	}
	if isTerminal(a.err) {
		fmt.Fprintf(a.err, "held for %s, %s consistency\n", span(m.Window), m.Consistency)
	}
	for _, reason := range m.Reasons {
		fmt.Fprintf(a.err, "fermata: %s\n", printable(reason))
	}
	return nil
}

func releaseCommand(a *app) *cobra.Command {
	var failed bool
	cmd := &cobra.Command{
		Use:   "release NUMBER",
		Short: "End the hold of quiesce --detach, and say whether it lasted",
		Long: `End the hold that quiesce --detach began, and say whether it lasted until now.
Exit status: 0 it did, 3 with less consistency than it could have, 4 it was broken, or its time was over.`,
		Args: exactly(1, "the number that quiesce --detach has printed"),
		RunE: func(cmd *cobra.Command, args []string) error {
			number, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil {
				return usage(cmd, "%q is no number of a hold", args[0])
			}
			return a.with(cmd, "release", func(ctx context.Context, c *client.Client) error {
				m, err := c.ReleaseQuiesce(ctx, number, !failed)
				if err != nil {
					return err
				}
				a.status = createStatus(api.Request{}, m)
				return a.printHeld(m)
			})
		},
	}
	cmd.Flags().BoolVar(&failed, "failed", false, "what the hold was for has failed: the writers are told")
	return cmd
}

// exitStatus of a command that has ended: a shell's, 128 and the signal's number for one that was killed.
func exitStatus(err error) (status int, failure error) {
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return 0, nil
	case !errors.As(err, &exit):
		return 0, err
	case exit.ExitCode() >= 0:
		return exit.ExitCode(), nil
	}
	return 128 + int(signalOf(exit)), nil
}
