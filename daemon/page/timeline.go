package page

import (
	"fmt"
	"strings"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/human"
	"github.com/fermata-project/fermata/daemon/timeline"
)

// drawing is a timeline in the template's terms: places are per cent of the width.
type drawing struct {
	Caption, Desc string
	Parts         []axisPart
	Frozen        *stretch
	Rows          []row
	More          string
}

type axisPart struct{ Name, Took, Middle, Class string }

type stretch struct{ From, Width string }

type row struct {
	Name, Took, Title, Class string
	Bars                     []bar
}

type bar struct{ Class, From, Width string }

// maxRows of a kind are drawn.
const maxRows = 24

// narrowPart is how much of the width a part has at most whose words do not fit on a telephone.
const narrowPart = 0.12

// draw draws a manifest; nil if it has no times.
func draw(m api.Manifest) *drawing {
	t := timeline.Of(m)
	if len(t.Rows) == 0 {
		return nil
	}
	d := &drawing{Caption: "When everything happened. Each part of the axis has a scale of its own; dark bars hold."}
	var parts []string
	for _, p := range t.Parts {
		x := axisPart{Name: p.Name, Took: human.Span(p.Took), Middle: percent((p.From + p.To) / 2)}
		if p.Frozen {
			d.Frozen, x.Class = &stretch{percent(p.From), percent(p.To - p.From)}, "frozen"
		} else if p.To-p.From < narrowPart {
			x.Class = "narrow"
		}
		d.Parts = append(d.Parts, x)
		parts = append(parts, x.Name+" "+x.Took)
	}
	d.Desc = strings.Join(parts, ", ")
	count, left := map[timeline.Kind]int{}, 0
	for i, r := range t.Rows {
		if count[r.Kind]++; count[r.Kind] > maxRows {
			left++
			continue
		}
		x := rowOf(r)
		if i > 0 && group(r.Kind) != group(t.Rows[i-1].Kind) {
			x.Class = strings.TrimSpace("first " + x.Class)
		}
		d.Rows = append(d.Rows, x)
	}
	if left > 0 {
		d.More = fmt.Sprintf("And %d more; fermata snapshot show --timeline draws all.", left)
	}
	return d
}

func group(k timeline.Kind) timeline.Kind {
	if k == timeline.Inner {
		return timeline.Step
	}
	return k
}

func rowOf(r timeline.Row) row {
	x := row{Name: r.Name, Took: human.Span(r.Took)}
	var class, said []string
	switch r.Kind {
	case timeline.Inner:
		class = append(class, "inner")
	case timeline.Writer:
		x.Took = "held " + x.Took
		if r.Took == 0 {
			x.Took = "did not hold"
		}
	case timeline.Volume:
		x.Took = "frozen " + x.Took
	}
	for _, held := range []bool{false, true} { // what is held stands before what is not
		for _, b := range r.Bars {
			if b.Held == held {
				x.Bars = append(x.Bars, barOf(b))
			}
		}
	}
	for _, b := range r.Bars {
		text := fmt.Sprintf("%s from %s for %s", b.Name, human.Span(b.Start), human.Span(b.Took))
		if b.Error != "" {
			text += ", which failed: " + b.Error
			class = append(class, "failed")
		}
		said = append(said, text)
	}
	x.Title, x.Class = strings.Join(said, "; "), strings.Join(class, " ")
	return x
}

func barOf(b timeline.Bar) bar {
	x := bar{"step", percent(b.From), percent(max(b.To-b.From, 0.003))}
	switch {
	case b.Error != "":
		x.Class = "bad"
	case b.Held:
		x.Class = "held"
	}
	return x
}

func percent(x float64) string { return fmt.Sprintf("%.2f", 100*x) }
