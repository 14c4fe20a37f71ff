package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/client"
)

func statusCommand(a *app) *cobra.Command {
	var before string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what the daemon is doing",
		Long: `Show what the daemon is doing. With --busy: only what somebody has from it that a restart of the daemon would end, or
its stop, a line each. That is what the packages ask before they do either.

Exit status with --busy: 0 there is nothing, 75 there is something.`,
		Example: `  fermata status
  fermata status --busy restart && systemctl restart fermatad`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("busy") && before != "restart" && before != "stop" {
				return usage(cmd, "--busy takes restart or stop, not %q", before)
			}
			return a.with(cmd, "show the status", func(ctx context.Context, c *client.Client) error {
				s, err := c.Status(ctx)
				switch {
				case err != nil:
					return err
				case before != "":
					return a.printBusy(disturbed(s.Busy, before))
				case a.json:
					return a.printJSON(s)
				}
				a.printStatus(s)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&before, "busy", "", "only what would be lost by `WHAT`: restart or stop")
	_ = cmd.RegisterFlagCompletionFunc("busy", cobra.FixedCompletions([]string{"restart", "stop"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// disturbed are those occupations that do not outlive a restart, or a stop: no one does that.
func disturbed(busy []api.Occupation, before string) []api.Occupation {
	out := []api.Occupation{}
	for _, o := range busy {
		if before == "stop" || !o.OutlivesRestart {
			out = append(out, o)
		}
	}
	return out
}

func (a *app) printBusy(busy []api.Occupation) error {
	if a.json {
		if err := a.printJSON(busy); err != nil {
			return err
		}
	} else {
		for _, o := range busy {
			fmt.Fprintln(a.out, printable(o.What))
		}
	}
	if len(busy) > 0 {
		a.status = api.Busy.ExitStatus()
	}
	return nil
}

func (a *app) printStatus(s api.Status) {
	doing := "nothing"
	if s.Running != "" {
		doing = "taking " + s.Running
		if s.Phase != "" {
			doing += ", phase " + s.Phase
		}
	}
	printTable(a, nil, nil, [][]string{
		{"version", s.Version},
		{"started", instant(s.Started)},
		{"sets", strconv.Itoa(s.Sets)},
		{"doing", doing},
		{"waiting", strconv.Itoa(s.Waiting)},
		{"guard", s.Guard},
	})
	var busy []string
	for _, o := range s.Busy {
		busy = append(busy, o.What)
	}
	a.bullets("BUSY", busy)
	a.bullets("PROBLEMS", s.Problems)
	a.bullets("RECOVERED AT THE START", s.Recovered)
}

func (a *app) bullets(title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(a.out, "\n%s\n", title)
	for _, l := range lines {
		fmt.Fprintf(a.out, "  %s\n", printable(l))
	}
}

// version is set by the build (-ldflags -X main.version=…); otherwise the module's version is told.
var version = ""

func versionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  exactly(0, ""),
		RunE: func(*cobra.Command, []string) error {
			v := ownVersion()
			if a.json {
				return a.printJSON(struct {
					Version string `json:"version"`
					Go      string `json:"go"`
				}{v, runtime.Version()})
			}
			fmt.Fprintf(a.out, "fermata %s (%s)\n", v, runtime.Version())
			return nil
		},
	}
}

func ownVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
