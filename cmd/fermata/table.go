package main

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// column of a list of T.
type column[T any] struct {
	name  string
	help  string
	wide  bool // only with -o wide, or by name
	right bool // aligned to the right
	value func(T) string
}

// list says how to print many of T.
type list[T any] struct {
	columns []column[T]
	id      func(T) string // what --quiet prints
}

// flags gives a list command its options.
func (l list[T]) flags(a *app, cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVarP(&a.quiet, "quiet", "q", false, "print names only")
	cmd.Flags().StringVarP(&a.columns, "columns", "o", "", "columns to print: `NAME,...`, +NAME,..., wide or help")
	_ = cmd.RegisterFlagCompletionFunc("columns", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		words := []string{"wide", "help"}
		for _, c := range l.columns {
			words = append(words, c.name)
		}
		return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	})
	return cmd
}

// check the options before anything is asked of the daemon; done means that the answer was help.
func (l list[T]) check(a *app, cmd *cobra.Command) (done bool, err error) {
	if a.columns == "help" {
		var rows [][]string
		for _, c := range l.columns {
			rows = append(rows, []string{c.name, c.help})
		}
		printTable(a, nil, nil, rows)
		return true, nil
	}
	_, err = l.chosen(a.columns)
	if err != nil {
		return false, usage(cmd, "%w", err)
	}
	return false, nil
}

// chosen columns: "" and "wide", or names, or names to add after a plus sign.
func (l list[T]) chosen(spec string) ([]column[T], error) {
	var columns []column[T]
	rest, plus := strings.CutPrefix(spec, "+")
	if spec == "" || spec == "wide" || plus {
		for _, c := range l.columns {
			if !c.wide || spec == "wide" {
				columns = append(columns, c)
			}
		}
		if !plus {
			return columns, nil
		}
	}
next:
	for name := range strings.SplitSeq(rest, ",") {
		for _, c := range l.columns {
			if c.name == name {
				columns = append(columns, c)
				continue next
			}
		}
		return nil, fmt.Errorf("there is no column %q; -o help lists them", name)
	}
	return columns, nil
}

// print rows as JSON, as names, or as a table.
func (l list[T]) print(a *app, rows []T) error {
	switch {
	case a.json:
		if rows == nil {
			rows = []T{}
		}
		return a.printJSON(rows)
	case a.quiet:
		for _, r := range rows {
			fmt.Fprintln(a.out, l.id(r))
		}
		return nil
	}
	columns, err := l.chosen(a.columns)
	if err != nil {
		return err
	}
	head, right := make([]string, len(columns)), make([]bool, len(columns))
	for i, c := range columns {
		head[i], right[i] = strings.ToUpper(strings.ReplaceAll(c.name, "_", " ")), c.right
	}
	var cells [][]string
	for _, r := range rows {
		line := make([]string, len(columns))
		for i, c := range columns {
			line[i] = c.value(r)
		}
		cells = append(cells, line)
	}
	printTable(a, head, right, cells)
	return nil
}

// printTable aligns cells in columns; an empty cell is a hyphen, and head may be nil.
func printTable(a *app, head []string, right []bool, rows [][]string) {
	printIndented(a, "", head, right, rows)
}

func printIndented(a *app, indent string, head []string, right []bool, rows [][]string) {
	all := rows
	if head != nil {
		all = append([][]string{head}, rows...)
	}
	var width []int
	for _, row := range all {
		for i, cell := range row {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(printable(cell)))
		}
	}
	for _, row := range all {
		var line strings.Builder
		line.WriteString(indent)
		for i, cell := range row {
			cell = printable(cell)
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i > 0 {
				line.WriteString("  ")
			}
			if right != nil && right[i] {
				line.WriteString(pad + cell)
			} else {
				line.WriteString(cell + pad)
			}
		}
		fmt.Fprintln(a.out, strings.TrimRight(line.String(), " "))
	}
}

// printable keeps a terminal from obeying what comes from file names and configuration.
func printable(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
