package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/cmd/reference"
	"github.com/fermata-project/fermata/daemon/client"
)

// app is what every command shares: where to print, and how.
type app struct {
	out, err io.Writer

	json     bool   // --json
	quiet    bool   // --quiet
	progress bool   // --progress
	columns  string // --columns

	status int // exit status of a command that did not fail
}

// dial reaches the daemon.
func (a *app) dial(ctx context.Context) (*client.Client, error) { return client.Dial(ctx) }

// with runs f with a connection to the daemon; what is the verb for an error's text.
func (a *app) with(cmd *cobra.Command, what string, f func(context.Context, *client.Client) error) error {
	ctx := cmd.Context()
	c, err := a.dial(ctx)
	if err == nil {
		defer c.Close()
		err = f(ctx, c)
	}
	return cannot(what, err)
}

const helpTemplate = `{{with or .Long .Short}}{{. | trimTrailingWhitespaces}}
{{end}}
Usage:
  {{.UseLine}}{{if .HasAvailableSubCommands}}
{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}

Options:
{{.Flags.FlagUsages | trimTrailingWhitespaces}}{{if .HasExample}}

Examples:
{{.Example}}{{end}}
`

// newRoot is the whole command tree.
func newRoot(a *app) *cobra.Command {
	root := noun(&cobra.Command{
		Use:   "fermata COMMAND",
		Short: "Take snapshot sets of volumes: all at one instant, with their applications holding still.",
		Example: `  fermata snapshot create --policy db
  fermata snapshot create /srv /var/lib/postgresql
  fermata snapshot mount latest:db
  fermata doctor`,
	},
		snapshotCommand(a), policyCommand(a), jobCommand(a), execCommand(a), quiesceCommand(a), releaseCommand(a), writerCommand(a), providerCommand(a), poolCommand(a), volumeCommand(a),
		statusCommand(a), initCommand(a), doctorCommand(a), thawCommand(a), configCommand(a), completionCommand(a), versionCommand(a),
		reference.Command(a.out),
	)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpTemplate(helpTemplate)
	root.SetHelpCommand(&cobra.Command{Use: "help", Hidden: true, RunE: func(cmd *cobra.Command, args []string) error {
		target, rest, err := root.Find(args)
		if err != nil || len(rest) > 0 {
			return usage(root, "there is no command %q", strings.Join(args, " "))
		}
		return target.Help()
	}})
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, "%w", err) })
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON, errors too")
	root.PersistentFlags().BoolVar(&a.progress, "progress", false, "without a terminal, too, say on standard error how far it is")
	root.PersistentFlags().BoolP("help", "h", false, "print this help")
	tidy(root)
	return root
}

// tidy takes cobra's additions out of the usage lines.
func tidy(cmd *cobra.Command) {
	cmd.DisableFlagsInUseLine = true
	for _, c := range cmd.Commands() {
		tidy(c)
	}
}

// noun is a command that only holds verbs.
func noun(cmd *cobra.Command, verbs ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(verbs...)
	cmd.SuggestionsMinimumDistance = 2
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			if !cmd.HasParent() {
				return cmd.Help()
			}
			return usage(cmd, "a verb is missing: one of %s", strings.Join(names(verbs), ", "))
		}
		if close := cmd.SuggestionsFor(args[0]); len(close) > 0 {
			return usage(cmd, "there is no command %q; is %q meant?", args[0], close[0])
		}
		return usage(cmd, "there is no command %q", args[0])
	}
	return cmd
}

func names(commands []*cobra.Command) []string {
	var list []string
	for _, c := range commands {
		list = append(list, c.Name())
	}
	return list
}

// exactly n arguments, called what.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < n:
			return usage(cmd, "%s is missing", what)
		case len(args) > n:
			return usage(cmd, "there is an argument too many: %q", args[n])
		}
		return nil
	}
}

// atLeastOne argument, called what.
func atLeastOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usage(cmd, "%s is missing", what)
		}
		return nil
	}
}

// atDash are the arguments before --, and the command after it.
func atDash(cmd *cobra.Command, args []string) (before, command []string) {
	if i := cmd.ArgsLenAtDash(); i >= 0 {
		return args[:i], args[i:]
	}
	return args, nil
}

// usage is an error of whoever typed the command; it carries the hint.
func usage(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...), cmd.CommandPath()}
}
