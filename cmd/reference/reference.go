// Package reference describes a program's command line for whoever writes about it: the man pages are made of it (tools/man).
package reference

import (
	"encoding/json"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A Verb is a command with what is below it. One with verbs does nothing itself.
type Verb struct {
	Path    string   `json:"path"` // "fermata snapshot create"
	Usage   string   `json:"usage"`
	Short   string   `json:"short"`
	Example string   `json:"example,omitempty"`
	Options []Option `json:"options,omitempty"`
	Verbs   []Verb   `json:"verbs,omitempty"`
}

// An Option of a verb. Value is what is given to it; empty: nothing.
type Option struct {
	Name      string `json:"name"`
	Shorthand string `json:"shorthand,omitempty"`
	Value     string `json:"value,omitempty"`
	Default   string `json:"default,omitempty"`
	Text      string `json:"text"`
}

// Command is the hidden verb that prints the description of the whole tree as JSON on out.
func Command(out io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:    "reference",
		Short:  "Describe this command line as JSON",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e := json.NewEncoder(out)
			e.SetIndent("", "  ")
			return e.Encode(Of(cmd.Root()))
		},
	}
}

// Of describes a command and what is below it, without what is hidden.
func Of(cmd *cobra.Command) Verb {
	v := Verb{Path: cmd.CommandPath(), Usage: cmd.UseLine(), Short: cmd.Short, Example: cmd.Example}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, text := pflag.UnquoteUsage(f)
		o := Option{Name: f.Name, Shorthand: f.Shorthand, Value: value, Text: text}
		if !zero(f) {
			o.Default = f.DefValue
		}
		v.Options = append(v.Options, o)
	})
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" {
			v.Verbs = append(v.Verbs, Of(c))
		}
	}
	return v
}

// zero says whether an option's default is what is meant when nothing is said.
func zero(f *pflag.Flag) bool {
	switch f.DefValue {
	case "", "false", "0", "0s", "[]", "<nil>":
		return true
	}
	return false
}
