package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/client"
)

const configDir = "/etc/fermata"

func configCommand(a *app) *cobra.Command {
	return noun(&cobra.Command{Use: "config VERB", Short: "Check the configuration, have the daemon read it anew"}, configCheckCommand(a), configReloadCommand(a))
}

// problem is a config.Problem as --json prints it.
type problem struct {
	File     string `json:"file"`
	Line     int    `json:"line,omitempty"`
	Column   int    `json:"column,omitempty"`
	Severity string `json:"severity"`
	Path     string `json:"path,omitempty"`
	Message  string `json:"message"`
}

func configCheckCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "check [DIR]",
		Short:   "Check the configuration files, by default those in " + configDir,
		Long:    "Check the configuration files and print every problem with file, line and column.\nExit status: 0 sound (warnings allowed), 1 a file has errors.",
		Example: "  fermata config check\n  fermata config check ./etc",
		Args:    atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := configDir
			if len(args) == 1 {
				dir = args[0]
			}
			problems, policies, err := checkConfig(dir)
			if err != nil {
				return cannot("check "+dir, err)
			}
			return a.printProblems(dir, problems, policies)
		},
	}
}

func configReloadCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Have the daemon read the configuration anew",
		Long: `Have the daemon read the configuration anew, as a whole: if anything is wrong with it, the old one stays. Waits for the jobs
that run, a minute at most. This is what systemctl reload fermatad does.

Exit status: 2 if the configuration has errors, 75 if a job would not end.`,
		Example: "  fermata config reload",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd, "read the configuration anew", func(ctx context.Context, c *client.Client) error { return c.Reload(ctx) })
		},
	}
}

func atMostOne(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usage(cmd, "there is an argument too many: %q", args[1])
	}
	return nil
}

// checkConfig loads dir: its problems, and how many policies can be used.
func checkConfig(dir string) (config.Problems, int, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, 0, err
	}
	c, err := config.Load(dir)
	var problems config.Problems
	if errors.As(err, &problems) {
		return problems, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	return c.Problems, len(c.Policies), nil
}

// printProblems prints them; errors among them make the exit status 1.
func (a *app) printProblems(dir string, problems config.Problems, policies int) error {
	faults := len(problems.Errors())
	if faults > 0 {
		a.status = 1
	}
	if a.json {
		list := []problem{}
		for _, p := range problems {
			list = append(list, problem{p.File, p.Line, p.Column, string(p.Severity), p.Path, p.Message})
		}
		return a.printJSON(list)
	}
	for _, p := range problems {
		fmt.Fprintln(a.out, printable(p.Error()))
	}
	if faults > 0 {
		fmt.Fprintf(a.out, "%s: %s, %s usable\n", dir, plural(faults, "error"), policyCount(policies))
	} else {
		fmt.Fprintf(a.out, "%s: sound, %s\n", dir, policyCount(policies))
	}
	return nil
}

func policyCount(n int) string {
	if n == 1 {
		return "1 policy"
	}
	return fmt.Sprintf("%d policies", n)
}
