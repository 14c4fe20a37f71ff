package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/hooks/recipe"
	"github.com/fermata-project/fermata/hooks/recipe/sqlite"
)

func sqliteCommand(served *bool) *cobra.Command {
	var o sqlite.Options
	c := &cobra.Command{
		Use:   "sqlite [FILE]...",
		Short: "Hold SQLite databases",
		RunE: func(c *cobra.Command, files []string) error {
			o.Files = files
			r, err := sqlite.New(o)
			if err != nil {
				return err
			}
			*served = true
			return recipe.Serve(c.Context(), os.Stdin, os.Stdout, r)
		},
	}
	c.Flags().StringArrayVar(&o.Patterns, "pattern", nil, "hold the databases among these files, too: /srv/app/*.db; may be repeated")
	c.Flags().StringVar(&o.BinDirectory, "bin-directory", "", "folder of sqlite3, for verify (default where packages put it)")
	return c
}
