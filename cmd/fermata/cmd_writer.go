package main

import (
	"context"
	"fmt"
	"time"

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
		{name: "state", help: "what became of it the last time, since the daemon started", value: func(w api.Writer) string { return lastRun(w).State }},
		{name: "last", help: "when that was", wide: true, value: func(w api.Writer) string { return instant(lastRun(w).Time) }},
		{name: "prepare", help: "how long it took to get ready then", wide: true, right: true, value: lastTime("prepare")},
		{name: "freeze", help: "how long it took to hold", wide: true, right: true, value: lastTime("freeze")},
		{name: "hold", help: "how long it held", right: true, value: lastTime("hold")},
		{name: "thaw", help: "how long it took to let go", wide: true, right: true, value: lastTime("thaw")},
		{name: "components", help: "what it has", value: componentNames},
		{name: "registered", help: "the bus name of the service that has registered it", wide: true, value: func(w api.Writer) string { return w.Registered }},
		{name: "problem", help: "why it cannot be used", value: func(w api.Writer) string { return w.Problem }},
		{name: "error", help: "what went wrong last, since the daemon started", value: lastError},
	},
}

// lastRun is the last time that a writer was asked; an empty one if it was not.
func lastRun(w api.Writer) api.WriterRun {
	if w.Last == nil {
		return api.WriterRun{}
	}
	return *w.Last
}

// lastTime is how long a phase took the last time.
func lastTime(phase string) func(api.Writer) string {
	return func(w api.Writer) string {
		for _, p := range lastRun(w).Phases {
			if p.Name == phase {
				return span(p.Duration)
			}
		}
		return ""
	}
}

// lastError is the last that went wrong.
func lastError(w api.Writer) string {
	if err := lastRun(w).Error; err != "" || w.LastFailure == nil {
		return err
	}
	return w.LastFailure.Error
}

func writerCommand(a *app) *cobra.Command {
	return noun(&cobra.Command{Use: "writer VERB", Short: "See and try the writers: applications that hold still"},
		inventory(a, "List the writers, with what became of each the last time", writerList, (*client.Client).Writers),
		writerShowCommand(a),
		writerTestCommand(a),
	)
}

func writerShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "show WRITER",
		Short:             "Show a writer, its components, and what it did the last time",
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
	rows := [][]string{{"writer", w.Name}, {"type", w.Type}, {"level", w.Level}, {"required", yes(w.Required)}}
	if w.OnFailure != "" {
		rows = append(rows, []string{"on failure", w.OnFailure})
	}
	if w.Registered != "" {
		rows = append(rows, []string{"registered", "by " + w.Registered})
	}
	printTable(a, nil, nil, rows)
	if w.Problem != "" {
		fmt.Fprintf(a.out, "disabled: %s\n", printable(w.Problem))
	}
	a.printComponents(w.Components)
	for _, run := range []*api.WriterRun{w.Last, w.LastFailure} {
		if run != nil {
			a.printRun(*run)
		}
	}
	return nil
}

func (a *app) printComponents(components []api.Component) {
	rows := [][]string{{"component", "paths", "excludes", "log files", "restore method"}}
	for _, c := range components {
		rows = append(rows, []string{c.Name, words(c.Paths), words(c.Excludes), words(c.LogFiles), c.RestoreMethod})
	}
	a.section("COMPONENTS", rows)
}

// printRun prints what a writer did in one set, hold or test.
func (a *app) printRun(r api.WriterRun) {
	what := "set " + r.Set
	if r.Test {
		what = "a test"
	}
	fmt.Fprintf(a.out, "\n%s, %s: %s\n", instant(r.Time), printable(what), printable(r.State))
	a.printWriterPhases(r.Phases)
	if r.Error != "" {
		fmt.Fprintf(a.out, "  %s\n", printable(r.Error))
	}
}

// printWriterPhases prints how long each phase of a writer took.
func (a *app) printWriterPhases(phases []api.Phase) {
	var rows [][]string
	var total time.Duration
	for _, p := range phases {
		rows = append(rows, []string{p.Name, span(p.Duration)})
		if total += p.Duration; p.Error != "" {
			rows[len(rows)-1][0] += " (failed)"
		}
	}
	if len(rows) > 0 {
		printIndented(a, "  ", nil, []bool{false, true}, append(rows, []string{"in all", span(total)}))
	}
}
