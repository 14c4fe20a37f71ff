package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/coreos/go-systemd/v22/dbus"
	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/systemd/timers"
)

func policyApplyCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "apply",
		Short: "Have systemd run the policies by their schedules",
		Long: `Have systemd run the policies by the schedules that stand in their files: check the configuration, have systemd's
generator make the timers anew, start those that are new, and stop those whose schedule is gone; then have the daemon,
if it runs, read the configuration anew (config reload). Timers that somebody has enabled by hand stay. At boot all this
happens by itself. A policy whose file cannot be read has no timer from the next boot or daemon-reload on; one that ran
is failed then (systemctl --failed), until its file is mended and this is run.

Exit status: 2 if the configuration has errors, and nothing is changed.`,
		Example: "  fermata policy apply && systemctl list-timers 'fermata-policy@*'",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cannot("apply the schedules", a.applySchedules(cmd.Context()))
		},
	}
}

// applied is what policy apply prints with --json.
type applied struct {
	Timers  []string `json:"timers"`
	Stopped []string `json:"stopped"`
}

func (a *app) applySchedules(ctx context.Context) error {
	c, err := config.Load(configDir)
	if err == nil && len(c.Problems.Errors()) > 0 {
		err = c.Problems.Errors()
	}
	if err != nil {
		return api.Errorf(api.Invalid, "%w", err)
	}
	s, err := dbus.NewSystemConnectionContext(ctx)
	if err != nil {
		return fmt.Errorf("cannot reach systemd: %w", err)
	}
	defer s.Close()
	result := applied{Timers: []string{}, Stopped: []string{}}
	for _, name := range slices.Sorted(maps.Keys(c.Policies)) {
		if len(c.Policies[name].Schedule.At) > 0 {
			result.Timers = append(result.Timers, timers.Unit(name))
		}
	}
	if result.Stopped, err = stopStale(ctx, s, result.Timers); err != nil { // before their files go, which is a failure to systemd
		return err
	}
	if err := s.ReloadContext(ctx); err != nil {
		return fmt.Errorf("cannot have systemd's generators run: %w", err)
	}
	unread := a.reloadDaemon(ctx)        // before a timer asks it for a policy that is new
	for _, unit := range result.Timers { // started anew: one that runs does not notice a new schedule
		if err := finished(ctx, unit, "restart", s.RestartUnitContext); err != nil {
			return err
		}
	}
	return errors.Join(a.printApplied(result), unread)
}

// reloadDaemon has a daemon that runs know the policies that its timers ask it for.
func (a *app) reloadDaemon(ctx context.Context) error {
	c, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if running, _, err := c.Running(ctx); err != nil || !running {
		return err
	}
	if err := c.Reload(ctx); err != nil {
		return fmt.Errorf("the timers are set, but the daemon does not know of it: %w (fermata config reload tries again)", err)
	}
	return nil
}

// stopStale stops the timers that run, or whose files have gone while they ran, are not wanted, and that nobody has enabled.
func stopStale(ctx context.Context, s *dbus.Conn, wanted []string) ([]string, error) {
	units, err := s.ListUnitsByPatternsContext(ctx, []string{"active", "failed"}, []string{timers.Unit("*")})
	if err != nil {
		return nil, fmt.Errorf("cannot list the timers: %w", err)
	}
	stopped := []string{}
	for _, u := range units {
		p, err := s.GetUnitPropertyContext(ctx, u.Name, "UnitFileState")
		if err != nil {
			return nil, fmt.Errorf("cannot look at %s: %w", u.Name, err)
		}
		if state, _ := p.Value.Value().(string); slices.Contains(wanted, u.Name) || state == "enabled" || state == "enabled-runtime" {
			continue
		}
		if u.ActiveState == "failed" {
			if err := s.ResetFailedUnitContext(ctx, u.Name); err != nil {
				return nil, fmt.Errorf("cannot reset %s: %w", u.Name, err)
			}
		} else if err := finished(ctx, u.Name, "stop", s.StopUnitContext); err != nil {
			return nil, err
		}
		stopped = append(stopped, u.Name)
	}
	slices.Sort(stopped)
	return stopped, nil
}

// finished waits until systemd has done something to a unit.
func finished(ctx context.Context, unit, verb string, do func(context.Context, string, string, chan<- string) (int, error)) error {
	done := make(chan string, 1)
	_, err := do(ctx, unit, "replace", done)
	if err == nil {
		select {
		case result := <-done:
			if result != "done" {
				err = fmt.Errorf("%s; see systemctl status %s", result, unit)
			}
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		return fmt.Errorf("cannot %s %s: %w", verb, unit, err)
	}
	return nil
}

func (a *app) printApplied(r applied) error {
	if a.json {
		return a.printJSON(r)
	}
	for _, unit := range r.Timers {
		fmt.Fprintln(a.out, "runs", unit)
	}
	for _, unit := range r.Stopped {
		fmt.Fprintln(a.out, "stopped", unit)
	}
	if len(r.Timers)+len(r.Stopped) == 0 {
		fmt.Fprintf(a.out, "no policy in %s has a schedule\n", path.Join(configDir, "policies.d"))
	}
	return nil
}
