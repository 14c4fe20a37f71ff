package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/hooks/recipe"
	"github.com/fermata-project/fermata/hooks/recipe/journald"
)

func journaldCommand(served *bool) *cobra.Command {
	var o journald.Options
	c := &cobra.Command{
		Use:   "journald",
		Short: "Have systemd's journal written out before a set",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := journald.New(o)
			if err != nil {
				return err
			}
			*served = true
			return recipe.Serve(c.Context(), os.Stdin, os.Stdout, r)
		},
	}
	c.Flags().StringVar(&o.Namespace, "namespace", "", "journal namespace (default the system's journal)")
	c.Flags().BoolVar(&o.Rotate, "rotate", false, "begin new journal files, so that all others are complete")
	return c
}
