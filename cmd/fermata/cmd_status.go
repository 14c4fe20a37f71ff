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
	return &cobra.Command{
		Use:   "status",
		Short: "Show what the daemon is doing",
		Args:  exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd, "show the status", func(ctx context.Context, c *client.Client) error {
				s, err := c.Status(ctx)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(s)
				}
				a.printStatus(s)
				return nil
			})
		},
	}
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
