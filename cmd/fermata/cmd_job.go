package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/client"
)

var jobList = list[api.Job]{
	id: func(j api.Job) string { return strconv.FormatUint(j.Number, 10) },
	columns: []column[api.Job]{
		{name: "job", help: "its number", right: true, value: func(j api.Job) string { return strconv.FormatUint(j.Number, 10) }},
		{name: "kind", help: "what it does", value: func(j api.Job) string { return j.Kind }},
		{name: "policy", help: "the policy that it is about", value: func(j api.Job) string { return j.Policy }},
		{name: "set", help: "the set that it is about", value: func(j api.Job) string { return j.Set }},
		{name: "begun", help: "when it began", value: func(j api.Job) string { return instant(j.Begun) }},
		{name: "state", help: "its phase, or how it ended", value: jobState},
		{name: "took", help: "how long it took, or has been running", wide: true, right: true, value: func(j api.Job) string { return span(jobTime(j, time.Now())) }},
		{name: "error", help: "why it failed", wide: true, value: func(j api.Job) string { return j.Error }},
	},
}

func jobState(j api.Job) string {
	switch {
	case j.Outcome != "":
		return j.Outcome
	case j.Phase != "":
		return j.Phase
	}
	return j.State
}

func jobTime(j api.Job, now time.Time) time.Duration {
	if j.Ended.IsZero() {
		return now.Sub(j.Begun)
	}
	return j.Ended.Sub(j.Begun)
}

func jobCommand(a *app) *cobra.Command {
	return noun(&cobra.Command{
		Use:   "job VERB",
		Short: "See what the daemon is doing for somebody, wait for it, end it",
		Long: `See what the daemon is doing for somebody, wait for it, end it. A job that has ended is kept for a minute, or until 64
later ones have ended.`,
	}, inventory(a, "List the jobs, oldest first", jobList, (*client.Client).Jobs), jobShowCommand(a), jobWaitCommand(a), jobCancelCommand(a))
}

// ofJob is a command about one job.
func ofJob(a *app, cmd *cobra.Command, what string, do func(context.Context, *client.Client, uint64) error) *cobra.Command {
	cmd.Args = exactly(1, "the job's number")
	cmd.ValidArgsFunction = completeJobs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		number, err := strconv.ParseUint(args[0], 10, 64)
		if err != nil {
			return usage(cmd, "%q is no number of a job", args[0])
		}
		return a.with(cmd, what+" job "+args[0], func(ctx context.Context, c *client.Client) error { return do(ctx, c, number) })
	}
	return cmd
}

func jobShowCommand(a *app) *cobra.Command {
	return ofJob(a, &cobra.Command{Use: "show JOB", Short: "Show a job", Example: "  fermata job show 7 --json"}, "show",
		func(ctx context.Context, c *client.Client, number uint64) error {
			j, err := c.Job(ctx, number)
			if err != nil {
				return err
			}
			return a.printJob(j)
		})
}

func (a *app) printJob(j *api.Job) error {
	if a.json {
		return a.printJSON(j)
	}
	rows := [][]string{{"job", strconv.FormatUint(j.Number, 10)}, {"kind", j.Kind}}
	for _, row := range [][]string{{"policy", j.Policy}, {"set", j.Set}, {"begun", instant(j.Begun)}, {"state", jobState(*j)}, {"error", j.Error}} {
		if row[1] != "" {
			rows = append(rows, row)
		}
	}
	printTable(a, nil, nil, append(rows, []string{"took", span(jobTime(*j, time.Now()))}))
	return nil
}

func jobWaitCommand(a *app) *cobra.Command {
	return ofJob(a, &cobra.Command{
		Use:   "wait JOB",
		Short: "Wait until a job has ended",
		Long: `Wait until a job has ended, and say how. Progress is one line on a terminal, and a line for each phase elsewhere, on
standard error. Ctrl-C ends the waiting, not the job.

Exit status: that of the command that started the job, had it waited.`,
		Example: "  fermata job wait \"$(fermata snapshot create --policy db --no-wait --quiet)\"",
	}, "wait for", func(ctx context.Context, c *client.Client, number uint64) error {
		a.progress = true
		progress, finish := a.progressLine()
		j, err := c.WaitJob(ctx, number, progress)
		finish()
		if err != nil {
			return err
		}
		if err := a.printJob(j); err != nil {
			return err
		}
		a.status = jobStatus(j)
		if a.status != 0 {
			return errQuiet
		}
		return nil
	})
}

// jobStatus is the exit status of the command that would have waited for a job.
func jobStatus(j *api.Job) int {
	if j.Outcome != "ok" {
		return api.Class(j.Outcome).ExitStatus()
	}
	var m api.Manifest
	var v api.Verification
	switch {
	case j.Kind == "create" && json.Unmarshal(j.Result, &m) == nil:
		return createStatus(api.Request{}, &m)
	case j.Kind == "verify" && json.Unmarshal(j.Result, &v) == nil && !v.OK:
		return api.Failed.ExitStatus()
	}
	return 0
}

func jobCancelCommand(a *app) *cobra.Command {
	return ofJob(a, &cobra.Command{
		Use:     "cancel JOB",
		Short:   "Have a job undo what it has done, and end",
		Long:    "Have a job undo what it has done, and wait until it has ended. What it has finished by then stays.",
		Example: "  fermata job cancel 7",
	}, "cancel", func(ctx context.Context, c *client.Client, number uint64) error {
		if _, err := c.Job(ctx, number); err != nil {
			return err
		}
		if err := c.CancelJob(ctx, number); err != nil {
			return err
		}
		j, err := c.WaitJob(ctx, number, nil)
		if err != nil {
			return err
		}
		return a.printJob(j)
	})
}

// noWaitFlag adds --no-wait.
func noWaitFlag(cmd *cobra.Command, into *bool) {
	cmd.Flags().BoolVar(into, "no-wait", false, "return at once, with the number of the job: see fermata job")
}

// started says which jobs do what was asked.
func (a *app) started(numbers []uint64, failures ...error) error {
	switch {
	case a.json:
		failures = append(failures, a.printJSON(numbers))
	default:
		for _, n := range numbers {
			if a.quiet {
				fmt.Fprintln(a.out, n)
			} else {
				fmt.Fprintln(a.out, "job", n)
			}
		}
	}
	return errors.Join(failures...)
}

func completeJobs(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return completeNames(cmd, (*client.Client).Jobs, func(j api.Job) string { return fmt.Sprintf("%d\t%s %s", j.Number, j.Kind, jobState(j)) })
}
