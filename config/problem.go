package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity says what a Problem costs.
type Severity string

const (
	// SeverityError disables the file that the problem is in; in fermata.yaml it fails Load.
	SeverityError Severity = "error"
	// SeverityWarning costs nothing: the value is used as it is.
	SeverityWarning Severity = "warning"
)

// Problem is one thing wrong with one configuration file. It is an error.
type Problem struct {
	File     string   // absolute or as given to Load
	Line     int      // from 1; 0 when the file as a whole is meant (it could not be read, or is not trusted)
	Column   int      // from 1, in characters; 0 with Line
	Severity Severity // error or warning
	Path     string   // the value within the file, such as "volumes[1]" or "limits.freeze"; "" for the whole
	Message  string   // what is wrong, and what to write instead
}

// Error gives "FILE:LINE:COLUMN: PATH: MESSAGE", the form that editors can jump to; warnings say
// that they are one.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": ")
	if p.Severity == SeverityWarning {
		b.WriteString("warning: ")
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Problems is a list of problems, ordered by file, line and column. It is an error too, one line a
// problem, and unwraps to each of them.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

func (ps Problems) Unwrap() []error {
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = p
	}
	return errs
}

// Errors returns the problems of SeverityError.
func (ps Problems) Errors() Problems { return ps.of(SeverityError) }

// Warnings returns the problems of SeverityWarning.
func (ps Problems) Warnings() Problems { return ps.of(SeverityWarning) }

func (ps Problems) of(s Severity) Problems {
	var found Problems
	for _, p := range ps {
		if p.Severity == s {
			found = append(found, p)
		}
	}
	return found
}

func (ps Problems) sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}
