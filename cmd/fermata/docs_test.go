package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fermata-project/fermata/cmd/reference"
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

// Every verb has a worked example there: its command line as root types it, in a block of its own section.
func TestEveryVerbHasAnExample(t *testing.T) {
	text, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	var walk func(reference.Verb)
	walk = func(v reference.Verb) {
		for _, below := range v.Verbs {
			walk(below)
		}
		if len(v.Verbs) == 0 && !regexp.MustCompile(`(?m)^# (.*[ (])?`+v.Path+`( |\)|$)`).Match(text) {
			t.Errorf("docs/cli.md has no example of %s", v.Path)
		}
	}
	walk(reference.Of(newRoot(&app{})))
}
