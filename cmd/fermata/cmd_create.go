package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/client"
)

// createFlags are the options of snapshot create as they are typed.
type createFlags struct {
	request     api.Request
	consistency string
	ifBusy      string
	providers   []string
	labels      []string
	cloneRate   string
	timeout     time.Duration
	noWait      bool
}

func createCommand(a *app) *cobra.Command {
	var f createFlags
	cmd := &cobra.Command{
		Use:   "create (--policy P | MOUNTPOINT-OR-DEVICE...)",
		Short: "Take a snapshot set",
		Long: `Take a snapshot set of all volumes of a policy, or of the volumes named: all at one instant, or none.
Exit status: 0 as asked, 1 failed, 2 usage, 3 made with less consistency than asked for,
4 timed out or a hold was broken and nothing was kept, 75 busy.`,
		Example: `  fermata snapshot create --policy db
  fermata snapshot create /srv /home --consistency filesystem --label job=nightly
  fermata snapshot create --policy db --dry-run`,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := f.resolve(args)
			if err != nil {
				return usage(cmd, "%w", err)
			}
			what := "take the set"
			if r.DryRun {
				what = "plan the set"
			}
			return a.with(cmd, what, func(ctx context.Context, c *client.Client) error {
				if f.noWait {
					job, err := c.StartCreate(ctx, r)
					if err != nil {
						return err
					}
					return a.started([]uint64{job})
				}
				if f.timeout > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, f.timeout)
					defer cancel()
				}
				progress, finish := a.progressLine()
				m, err := c.CreateSet(ctx, r, progress)
				finish()
				if err != nil {
					return err
				}
				a.status = createStatus(r, m)
				a.warnOmits(m)
				return a.printCreated(m)
			})
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.request.Policy, "policy", "", "the policy `P` that says which volumes and writers")
	fs.StringArrayVar(&f.request.Writers, "writer", nil, "ask writer `W` to hold (repeatable; without a policy)")
	fs.StringArrayVar(&f.providers, "provider", nil, "provider `NAME` for every volume, or VOLUME=NAME for one (repeatable; default: chosen for each)")
	fs.StringVar(&f.consistency, "consistency", "", "the least `LEVEL` that is acceptable: application, filesystem or crash")
	ifBusyFlag(cmd, &f.ifBusy, "another set")
	fs.BoolVar(&f.request.DryRun, "dry-run", false, "print the plan and do nothing")
	fs.IntVar(&f.request.Retry, "retry", 0, "try again `N` times (0 to 10) when a hold was broken")
	fs.DurationVar(&f.request.RetryWait, "retry-wait", 0, "pause `TIME` before each retry, such as 30s")
	fs.StringVar(&f.request.Method, "method", "", "`copy-on-write|clone`: clone copies the set in full after it is taken")
	fs.StringVar(&f.request.Clone.Directory, "clone-to", "", "directory `DIR` for the copies")
	fs.StringVar(&f.cloneRate, "clone-rate", "", "copy at most `SIZE` a second, such as 50M")
	fs.BoolVar(&f.request.Clone.Keep, "clone-keep", false, "keep the snapshots that were copied")
	fs.BoolVar(&f.request.Clone.NoWait, "clone-no-wait", false, "do not wait for the copy")
	fs.StringArrayVar(&f.labels, "label", nil, "`KEY=VALUE` to keep with the set (repeatable)")
	fs.DurationVar(&f.timeout, "timeout", 0, "give up and undo after `TIME`, such as 5m")
	noWaitFlag(cmd, &f.noWait)
	fs.BoolVarP(&a.quiet, "quiet", "q", false, "print the id only")
	_ = cmd.RegisterFlagCompletionFunc("policy", completePolicies)
	_ = cmd.RegisterFlagCompletionFunc("consistency", cobra.FixedCompletions([]string{"application", "filesystem", "crash"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("method", cobra.FixedCompletions([]string{api.CopyOnWrite, api.Clone}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagDirname("clone-to")
	_ = cmd.RegisterFlagCompletionFunc("writer", completeWriters)
	_ = cmd.RegisterFlagCompletionFunc("provider", completeProviders)
	return cmd
}

// resolve makes the request of the options and arguments; its errors are errors of usage.
func (f createFlags) resolve(args []string) (api.Request, error) {
	r := f.request
	switch {
	case r.Policy == "" && len(args) == 0:
		return r, fmt.Errorf("what to take is missing: --policy, or mount points or devices")
	case r.Policy != "" && len(args) > 0:
		return r, fmt.Errorf("--policy says which volumes: %q is too much", args[0])
	case r.Policy != "" && len(r.Writers) > 0:
		return r, fmt.Errorf("--policy says which writers: --writer is too much")
	case r.Retry < 0 || r.Retry > 10:
		return r, fmt.Errorf("--retry %d is not between 0 and 10", r.Retry)
	case r.RetryWait < 0 || r.RetryWait > time.Hour:
		return r, fmt.Errorf("--retry-wait %s is not between 0 and 1h", r.RetryWait)
	case f.noWait && (f.timeout != 0 || r.DryRun):
		return r, fmt.Errorf("--no-wait is not for --timeout or --dry-run")
	case f.timeout < 0:
		return r, fmt.Errorf("--timeout %s is negative", f.timeout)
	}
	if err := f.resolveClone(&r); err != nil {
		return r, err
	}
	var err error
	if r.Volumes, err = volumePaths(args); err != nil {
		return r, err
	}
	if r.Consistency, err = parseConsistency(f.consistency); err != nil {
		return r, err
	}
	if r.FailIfBusy, err = parseIfBusy(f.ifBusy); err != nil {
		return r, err
	}
	if err := chooseProviders(&r, f.providers); err != nil {
		return r, err
	}
	for _, l := range f.labels {
		key, value, ok := strings.Cut(l, "=")
		if !ok || key == "" {
			return r, fmt.Errorf("--label %q is not KEY=VALUE", l)
		}
		if r.Labels == nil {
			r.Labels = map[string]string{}
		}
		r.Labels[key] = value
	}
	return r, nil
}

// volumePaths makes absolute paths of what was typed.
func volumePaths(args []string) ([]string, error) {
	var out []string
	for _, arg := range args {
		if !strings.ContainsRune(arg, '/') && arg != "." && arg != ".." {
			return nil, fmt.Errorf("%q is neither a mount point nor a device; for a policy say --policy %s", arg, arg)
		}
		path, err := filepath.Abs(arg)
		if err != nil {
			return nil, err
		}
		out = append(out, path)
	}
	return out, nil
}

// parseConsistency reads --consistency; empty stays empty.
func parseConsistency(word string) (api.Consistency, error) {
	c := api.Consistency(word)
	if word != "" && c.Rank() == 0 {
		return "", fmt.Errorf("--consistency %q is none of application, filesystem, crash", word)
	}
	return c, nil
}

// ifBusyFlag adds --if-busy, for what has to wait while what is taken.
func ifBusyFlag(cmd *cobra.Command, into *string, what string) {
	cmd.Flags().StringVar(into, "if-busy", "wait", "`wait|fail` while "+what+" is taken (exit status 75)")
	_ = cmd.RegisterFlagCompletionFunc("if-busy", cobra.FixedCompletions([]string{"wait", "fail"}, cobra.ShellCompDirectiveNoFileComp))
}

// parseIfBusy reads --if-busy.
func parseIfBusy(word string) (fail bool, err error) {
	if word != "wait" && word != "fail" {
		return false, fmt.Errorf("--if-busy %q is neither wait nor fail", word)
	}
	return word == "fail", nil
}

// chooseProviders reads what --provider was given: NAME once, VOLUME=NAME as often as there are volumes. A path may have
// = in it, a provider's name has none.
func chooseProviders(r *api.Request, words []string) error {
	for _, word := range words {
		i := strings.LastIndexByte(word, '=')
		name := word[i+1:]
		switch {
		case name == "":
			return fmt.Errorf("--provider %q is neither NAME nor VOLUME=NAME", word)
		case i < 0 && r.Provider != "" && r.Provider != name:
			return fmt.Errorf("--provider %s and --provider %s are both for every volume", r.Provider, name)
		case i < 0:
			r.Provider = name
			continue
		}
		volume, err := filepath.Abs(word[:i])
		if err != nil {
			return err
		}
		if r.Providers == nil {
			r.Providers = map[string]string{}
		}
		r.Providers[volume] = name
	}
	return nil
}

// resolveClone checks the options of method clone.
func (f createFlags) resolveClone(r *api.Request) error {
	if r.Clone.Directory != "" {
		dir, err := filepath.Abs(r.Clone.Directory)
		if err != nil {
			return err
		}
		r.Clone.Directory = dir
	}
	if f.cloneRate != "" {
		rate, err := config.ParseRate(f.cloneRate)
		if err != nil {
			return fmt.Errorf("--clone-rate: %w", err)
		}
		r.Clone.Rate = uint64(rate)
	}
	switch {
	case r.Method != "" && r.Method != api.CopyOnWrite && r.Method != api.Clone:
		return fmt.Errorf("--method %q is neither copy-on-write nor clone", r.Method)
	case r.Method == api.Clone && r.Policy == "" && r.Clone.Directory == "":
		return fmt.Errorf("--method clone takes --clone-to")
	case r.Method != api.Clone && r.Policy == "" && r.Clone != (api.CloneOptions{}):
		return fmt.Errorf("--clone-to, --clone-rate, --clone-keep and --clone-no-wait take --method clone")
	}
	return nil
}

// createStatus is the exit status for a set that was made: 3 if it claims less than it could, unless whoever asked
// said that this much is enough.
func createStatus(r api.Request, m *api.Manifest) int {
	enough := r.Consistency != "" && m.Consistency.Rank() >= r.Consistency.Rank()
	if m.State == api.Planned || len(m.Reasons) == 0 || enough {
		return 0
	}
	return exitDegraded
}

// printCreated prints what snapshot create answers with.
func (a *app) printCreated(m *api.Manifest) error {
	switch {
	case a.json:
		return a.printJSON(m)
	case a.quiet:
		fmt.Fprintln(a.out, m.ID)
	default:
		a.printManifest(m)
	}
	return nil
}
