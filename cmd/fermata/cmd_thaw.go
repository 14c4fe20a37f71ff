package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/daemon/thaw"
	"github.com/fermata-project/fermata/fsfreeze/guard"
	"github.com/fermata-project/fermata/fsfreeze/rescue"
	"github.com/fermata-project/fermata/hooks/recipe/unit"
)

func thawCommand(a *app) *cobra.Command {
	o := thaw.Options{Journal: thaw.Journal, Notes: guard.Notes, Units: releaseUnits}
	cmd := &cobra.Command{
		Use:   "thaw [--all | MOUNTPOINT...]",
		Short: "Release what is frozen, without the daemon: the panic verb",
		Long: `Release what a snapshot set has left frozen or suspended: without daemon, bus or configuration, by system calls
alone, also while the root filesystem is frozen. A set that is being taken fails; nothing of it is kept.

By default only what Fermata itself froze and suspended is released, by the journal in /run/fermata; also units that
a writer has frozen, for which systemd is asked, after all else. With MOUNTPOINTs
these filesystems are released, and the suspended devices below them, whoever froze them. With --all every filesystem
and every suspended device-mapper device of the host is: whoever froze one may rely on it.

It first releases and then speaks. If the kernel does not answer in time, the command says so, and cannot end before
the kernel does. Exit status: 0 nothing is held any more, or nothing was; 1 something could not be released, or the
daemon could not be told of it.`,
		Example: `  fermata thaw
  fermata thaw /srv /home
  fermata thaw --all`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case o.All && len(args) > 0:
				return usage(cmd, "--all is everything: %q is too much", args[0])
			case o.Limit <= 0 || o.Limit > time.Hour:
				return usage(cmd, "--timeout %s is not between 0 and 1h", o.Limit)
			}
			for _, arg := range args {
				point, err := filepath.Abs(arg)
				if err != nil {
					return err
				}
				o.Points = append(o.Points, point)
			}
			r, err := thaw.Run(o)
			if err != nil {
				return err
			}
			if !r.OK() {
				a.status = 1
			}
			if a.json {
				return a.printJSON(r)
			}
			a.printThaw(r, o.All)
			return nil
		},
	}
	cmd.Flags().BoolVar(&o.All, "all", false, "release every filesystem and suspended device, whoever holds it")
	cmd.Flags().DurationVar(&o.Limit, "timeout", 10*time.Second, "wait at most `TIME` for the kernel")
	return cmd
}

func releaseUnits(ctx context.Context) ([]string, error) {
	return unit.Release(ctx, unit.Notes, unit.Dial)
}

func (a *app) printThaw(r thaw.Report, all bool) {
	released, foreign := 0, 0
	for _, o := range r.Outcomes {
		whose := ""
		if o.Set != "" {
			whose = " (set " + o.Set + ")"
		}
		switch name := printable(o.Name); o.Result {
		case rescue.Released:
			released++
			if o.Set == "" {
				foreign++
			}
			fmt.Fprintf(a.out, "%s %s%s\n", map[rescue.Kind]string{rescue.KindDevice: "resumed", rescue.KindFilesystem: "thawed"}[o.Kind], name, whose)
		case rescue.Free:
			if !all { // of everything, most was not frozen
				fmt.Fprintf(a.out, "%s was not frozen%s\n", name, whose)
			}
		default:
			fmt.Fprintf(a.err, "fermata: cannot release %s %s%s: %s\n", o.Kind, name, whose, printable(o.Error))
		}
	}
	for _, name := range r.Units {
		released++
		fmt.Fprintf(a.out, "thawed unit %s\n", printable(name))
	}
	for _, p := range r.Problems {
		fmt.Fprintf(a.err, "fermata: %s\n", printable(p))
	}
	if released == 0 && r.OK() {
		fmt.Fprintln(a.out, "nothing was frozen")
	}
	if foreign > 0 {
		fmt.Fprintf(a.err, "fermata: warning: %d of these were not Fermata's; whoever froze them may rely on it\n", foreign)
	}
	for _, name := range r.Left {
		fmt.Fprintf(a.err, "fermata: left alone: device %s is suspended, not by Fermata as far as is known (fermata thaw --all resumes it)\n", printable(name))
	}
	if !all && !r.OK() {
		fmt.Fprintln(a.err, "fermata: if something is still frozen: fermata thaw MOUNTPOINT, or fermata thaw --all")
	}
}
