package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/hooks/recipe"
	"github.com/fermata-project/fermata/hooks/recipe/unit"
)

func unitCommand(served *bool) *cobra.Command {
	return &cobra.Command{
		Use:   "systemd-unit UNIT",
		Short: "Hold a unit of systemd by the freezer of its cgroup",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			*served = true
			u := &unit.Unit{Name: args[0], Dial: unit.Dial, Notes: unit.Notes, Cgroups: unit.Cgroups}
			return recipe.Serve(c.Context(), os.Stdin, os.Stdout, u)
		},
	}
}
