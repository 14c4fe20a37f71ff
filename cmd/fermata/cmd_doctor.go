package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/daemon/doctor"
)

func doctorCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Say what this host can do, and what is wrong with it",
		Long: `Say what this host can do for snapshot sets, and what is wrong with it. Root sees everything.
Exit status: 0 nothing failed (warnings allowed), 1 a check failed.`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			checks := doctor.Assess(doctor.Observe(cmd.Context()))
			if doctor.Failed(checks) {
				a.status = 1
			}
			if a.json {
				return a.printJSON(checks)
			}
			a.printChecks(checks)
			return nil
		},
	}
}

func (a *app) printChecks(checks []doctor.Check) {
	count := map[doctor.State]int{}
	var rows [][]string
	for _, c := range checks {
		count[c.State]++
		rows = append(rows, []string{string(c.State), c.Name, c.Detail})
		if c.Remedy != "" {
			rows = append(rows, []string{" ", " ", "→ " + c.Remedy})
		}
	}
	printTable(a, nil, nil, rows)
	fmt.Fprintf(a.out, "\n%d ok, %s, %d failed\n", count[doctor.OK], plural(count[doctor.Warning], "warning"), count[doctor.Failure])
}
