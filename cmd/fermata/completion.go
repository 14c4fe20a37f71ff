package main

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/client"
)

// completionTimeout: a prompt must not hang on a daemon that does not answer.
const completionTimeout = 500 * time.Millisecond

func completionCommand(a *app) *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:       "completion bash|zsh|fish",
		Short:     "Print the completion script of a shell",
		Example:   "  fermata completion bash > /etc/bash_completion.d/fermata",
		ValidArgs: shells,
		Args:      exactly(1, "the shell"),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.out, true)
			case "zsh":
				return root.GenZshCompletion(a.out)
			case "fish":
				return root.GenFishCompletion(a.out, true)
			}
			return usage(cmd, "there is no completion for %q; there is for %s", args[0], strings.Join(shells, ", "))
		},
	}
}

// complete asks the daemon for words; one that does not answer gives none.
func complete(cmd *cobra.Command, ask func(context.Context, *client.Client) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	c, err := client.Dial(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer c.Close()
	words, err := ask(ctx, c)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	slices.Sort(words)
	return slices.Compact(words), cobra.ShellCompDirectiveNoFileComp
}

// completeSets gives the ids of sets, newest first in meaning, and latest.
func completeSets(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return complete(cmd, func(ctx context.Context, c *client.Client) ([]string, error) {
		sets, err := c.Sets(ctx)
		if len(sets) == 0 {
			return nil, err
		}
		words := []string{"latest"}
		for _, m := range sets {
			words = append(words, m.ID+"\t"+strings.TrimSpace(m.Policy+" "+string(m.Consistency)))
		}
		return words, err
	})
}

// completePolicies gives the policies that are declared, as far as this user may see them, and those of existing sets.
func completePolicies(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	var declared []string
	files, _ := filepath.Glob(filepath.Join(configDir, "policies.d", "*.yaml")) // the pattern is not malformed
	for _, f := range files {
		declared = append(declared, strings.TrimSuffix(filepath.Base(f), ".yaml"))
	}
	words, directive := complete(cmd, func(ctx context.Context, c *client.Client) ([]string, error) {
		sets, err := c.Sets(ctx)
		var names []string
		for _, m := range sets {
			if m.Policy != "" {
				names = append(names, m.Policy)
			}
		}
		return names, err
	})
	words = append(declared, words...)
	slices.Sort(words)
	return slices.Compact(words), directive
}

func completeWriters(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return completeNames(cmd, (*client.Client).Writers, func(w api.Writer) string { return w.Name })
}

func completeProviders(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return completeNames(cmd, (*client.Client).Providers, func(p api.Provider) string { return p.Name })
}

func completeNames[T any](cmd *cobra.Command, get func(*client.Client, context.Context) ([]T, error), name func(T) string) ([]string, cobra.ShellCompDirective) {
	return complete(cmd, func(ctx context.Context, c *client.Client) ([]string, error) {
		all, err := get(c, ctx)
		var words []string
		for _, x := range all {
			words = append(words, name(x))
		}
		return words, err
	})
}
