package main

import (
	"encoding/json"
	"io"
	"strings"
	"time"

	"github.com/fermata-project/fermata/daemon/human"
)

// printJSON prints one document, indented.
func (a *app) printJSON(v any) error { return printJSON(a.out, v) }

func printJSON(to io.Writer, v any) error {
	e := json.NewEncoder(to)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// Numbers for people.
var (
	size    = human.Size
	share   = human.Share
	span    = human.Span
	roughly = human.Roughly
	plural  = human.Plural
)

// instant is a time in the local zone.
func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05 -0700")
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func words(list []string) string { return strings.Join(list, ", ") }
