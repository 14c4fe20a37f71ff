package main

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Every command and every option stands in the reference.
func TestEverythingIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		words := strings.Fields(cmd.CommandPath())
		if last := words[len(words)-1]; !strings.Contains(string(text), last) {
			t.Errorf("docs/cli.md does not speak of %s", cmd.CommandPath())
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !strings.Contains(string(text), "`--"+f.Name) {
				t.Errorf("docs/cli.md does not speak of --%s (%s)", f.Name, cmd.CommandPath())
			}
		})
		if !cmd.HasAvailableSubCommands() && cmd.Short == "" {
			t.Errorf("%s has no description", cmd.CommandPath())
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(newRoot(&app{}))
}
