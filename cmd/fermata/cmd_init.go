package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/client"
	"github.com/fermata-project/fermata/daemon/initial"
)

func initCommand(a *app) *cobra.Command {
	var output string
	var force bool
	var databases []string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a first configuration for this host",
		Long: `Look at this host, and write a configuration for it: a writer and a policy for each database that runs, a policy for
the other volumes, and what room there is. Without --output it is printed. Run it as root, with the databases running.`,
		Example: `  fermata init
  fermata init --output /etc/fermata && fermata config check`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd, "write a configuration", func(ctx context.Context, c *client.Client) error {
				host, err := initial.Look(ctx, c, databases)
				if err != nil {
					return err
				}
				files := initial.Files(host)
				switch {
				case output != "":
					return a.writeFiles(output, files, force)
				case a.json:
					return a.printJSON(files)
				}
				for i, f := range files {
					if i > 0 {
						fmt.Fprintln(a.out)
					}
					fmt.Fprintf(a.out, "# %s\n%s", filepath.Join(configDir, f.Name), f.Text)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&output, "output", "", "write the files below `DIR`, such as "+configDir)
	cmd.Flags().BoolVar(&force, "force", false, "overwrite files that are there")
	cmd.Flags().StringArrayVar(&databases, "sqlite", nil, "hold the SQLite database `FILE` too; repeatable")
	return cmd
}

// empty says whether a file of the configuration has comments only, as that of a fresh package.
func empty(text string) bool {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return false
		}
	}
	return true
}

// writeFiles writes a configuration: without force none of it if a file of it is there and sets something.
func (a *app) writeFiles(dir string, files []initial.File, force bool) error {
	if !force {
		for _, f := range files {
			name := filepath.Join(dir, f.Name)
			old, err := os.ReadFile(name)
			switch {
			case errors.Is(err, fs.ErrNotExist) || err == nil && (string(old) == f.Text || empty(string(old))):
			case err != nil:
				return err
			default:
				return api.Errorf(api.Invalid, "%s is there already: nothing was written; --force overwrites it, and without --output all is printed", name)
			}
		}
	}
	for _, f := range files {
		name := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(f.Text), 0o644); err != nil {
			return err
		}
		fmt.Fprintln(a.out, "wrote", name)
	}
	return nil
}
