package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/client"
)

var writerList = list[api.Writer]{
	id: func(w api.Writer) string { return w.Name },
	columns: []column[api.Writer]{
		{name: "name", help: "the writer's name", value: func(w api.Writer) string { return w.Name }},
		{name: "type", help: "how it is asked", value: func(w api.Writer) string { return w.Type }},
		{name: "level", help: "front-end, back-end or system: the order of freezing", value: func(w api.Writer) string { return w.Level }},
		{name: "required", help: "no set is made without it", value: func(w api.Writer) string { return yes(w.Required) }},
		{name: "components", help: "what it has", value: componentNames},
		{name: "problem", help: "why it is disabled", value: func(w api.Writer) string { return w.Problem }},
	},
}

func writerCommand(a *app) *cobra.Command {
	return noun(&cobra.Command{Use: "writer VERB", Short: "See the writers: applications that hold still"},
		inventory(a, "List the declared writers", writerList, (*client.Client).Writers),
		writerShowCommand(a),
	)
}

func writerShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "show WRITER",
		Short:             "Show a writer and its components",
		Example:           "  fermata writer show postgresql",
		Args:              exactly(1, "the writer"),
		ValidArgsFunction: completeWriters,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, "show the writer", func(ctx context.Context, c *client.Client) error {
				writers, err := c.Writers(ctx)
				if err != nil {
					return err
				}
				for _, w := range writers {
					if w.Name == args[0] {
						return a.printWriter(w)
					}
				}
				return api.Errorf(api.NotFound, "there is no writer %q; see fermata writer list", args[0])
			})
		},
	}
}

func (a *app) printWriter(w api.Writer) error {
	if a.json {
		return a.printJSON(w)
	}
	printTable(a, nil, nil, [][]string{
		{"writer", w.Name}, {"type", w.Type}, {"level", w.Level}, {"required", yes(w.Required)},
	})
	if w.Problem != "" {
		fmt.Fprintf(a.out, "disabled: %s\n", printable(w.Problem))
	}
	rows := [][]string{{"component", "paths", "excludes", "restore method"}}
	for _, c := range w.Components {
		rows = append(rows, []string{c.Name, words(c.Paths), words(c.Excludes), c.RestoreMethod})
	}
	a.section("COMPONENTS", rows)
	return nil
}
