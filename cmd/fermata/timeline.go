package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/timeline"
)

// strokes draw a timeline.
type strokes struct {
	bar, held, border rune
	cut               string // stands for the rest of a name
}

var (
	blocks = strokes{'━', '█', '┊', "…"}
	signs  = strokes{'=', '#', ':', "~"}
)

const (
	maxName  = 28 // columns of a name, and at most a quarter of all
	minName  = 16
	maxChart = 120 // columns of the drawing
	minChart = 24
	noWidth  = 100 // columns of what is no terminal
)

// printTimeline draws when everything in a set happened.
func (a *app) printTimeline(m *api.Manifest) {
	s := signs
	if branchStyle(os.Getenv) == boxes {
		s = blocks
	}
	a.printHead(m)
	fmt.Fprintln(a.out)
	t := timeline.Of(*m)
	if len(t.Rows) == 0 {
		fmt.Fprintln(a.out, "The manifest has no times.")
		return
	}
	for _, line := range drawTimeline(t, s, columns(a.out)) {
		fmt.Fprintln(a.out, line)
	}
}

// columns of a terminal, or of what is none.
func columns(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !isTerminal(w) {
		return noWidth
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 {
		return noWidth
	}
	return int(size.Col)
}

// drawTimeline draws lines of at most width columns, unless that is too few to draw anything.
func drawTimeline(t timeline.Timeline, s strokes, width int) []string {
	name, took := utf8.RuneCountInString("WRITER"), utf8.RuneCountInString("FROZEN")
	for _, r := range t.Rows {
		name = max(name, utf8.RuneCountInString(rowName(r)))
		took = max(took, utf8.RuneCountInString(span(r.Took)))
	}
	name = min(name, maxName, max(minName, width/4))
	d := drawing{s: s, parts: t.Parts, width: min(max(width-name-took-4, minChart), maxChart)}
	line := func(first, second, chart string) string {
		first = cut(first, name, s.cut)
		return strings.TrimRight(fmt.Sprintf("%-*s  %*s  %s", name, first, took, second, chart), " ")
	}
	lines := []string{line("", "", d.labels(func(p timeline.Part) string { return p.Name }))}
	for i, r := range t.Rows {
		if i == 0 || heading(r.Kind) != heading(t.Rows[i-1].Kind) {
			title, chart := heading(r.Kind), d.row(nil)
			if i == 0 {
				chart = d.labels(func(p timeline.Part) string { return span(p.Took) })
			}
			lines = append(lines, line(title[0], title[1], chart))
		}
		text := span(r.Took)
		if r.Kind == timeline.Writer && r.Took == 0 {
			text = "-"
		}
		lines = append(lines, line(rowName(r), text, d.row(r.Bars)))
		for _, b := range r.Bars {
			if b.Error != "" {
				lines = append(lines, "  "+printable(b.Name+": "+b.Error))
			}
		}
	}
	return lines
}

func heading(k timeline.Kind) [2]string {
	switch k {
	case timeline.Writer:
		return [2]string{"WRITER", "HELD"}
	case timeline.Volume:
		return [2]string{"VOLUME", "FROZEN"}
	}
	return [2]string{"PHASE", "TOOK"}
}

func rowName(r timeline.Row) string {
	if r.Kind == timeline.Inner {
		return "  " + printable(r.Name)
	}
	return printable(r.Name)
}

// cut shortens what has more than n characters.
func cut(text string, n int, by string) string {
	if runes := []rune(text); len(runes) > n {
		return string(runes[:n-1]) + by
	}
	return text
}

// drawing is the part of a line with the bars.
type drawing struct {
	s     strokes
	parts []timeline.Part
	width int
}

func (d drawing) cell(x float64) int { return min(int(x*float64(d.width)+0.5), d.width-1) }

// empty is a line with the borders of the axis' parts.
func (d drawing) empty() []rune {
	line := []rune(strings.Repeat(" ", d.width))
	for i, p := range d.parts {
		if i > 0 {
			line[d.cell(p.From)] = d.s.border
		}
	}
	return line
}

// row draws bars; the shortest is one column, and what is held stands before what is not.
func (d drawing) row(bars []timeline.Bar) string {
	line := d.empty()
	for _, held := range []bool{false, true} {
		for _, b := range bars {
			if b.Held != held {
				continue
			}
			stroke := d.s.bar
			if held {
				stroke = d.s.held
			}
			from := d.cell(b.From)
			for i := from; i < max(from+1, d.cell(b.To)); i++ {
				line[i] = stroke
			}
		}
	}
	return string(line)
}

// labels writes into the middle of each part what fits there.
func (d drawing) labels(text func(timeline.Part) string) string {
	line := d.empty()
	for _, p := range d.parts {
		label := []rune(text(p))
		from, to := d.cell(p.From)+1, d.cell(p.To)
		if room := to - from - len(label); room >= 0 {
			copy(line[from+room/2:], label)
		}
	}
	return string(line)
}
