// Package timeline lays out when the phases of a snapshot set happened, for whoever draws them: the terminal in characters, the
// status page in SVG. It draws nothing itself.
//
// A freeze window of a millisecond in a set that took twenty seconds would be nothing to see. So the axis has up to five
// parts, each with its own scale, and each with the same share of the width in every set, whatever it took: getting ready, the
// writers' hold up to the window, the window, their hold after it, finishing. Within a part lengths can be compared; what a
// part took is written on it. A part that took no time has no place.
package timeline

import (
	"cmp"
	"slices"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
)

// Kind of a row.
type Kind int

const (
	Step   Kind = iota // of the transaction
	Inner              // a part of the step above it: of the freeze window
	Writer             // what a writer did
	Volume             // how long its filesystem was frozen
)

// Timeline is a set's. Places are from 0, where it began, to 1, where it ended.
type Timeline struct {
	Parts []Part
	Rows  []Row
}

// Part of the axis.
type Part struct {
	Name     string // prepare, hold, frozen, release, finish
	From, To float64
	Took     time.Duration
	Frozen   bool // the freeze window
}

// Row is what happened to one thing.
type Row struct {
	Kind Kind
	Name string
	// Start and Took are a step's; of a writer when it was asked first, and how long it held; of a volume the window's.
	Start, Took time.Duration
	Bars        []Bar
}

// Bar is a stretch of time.
type Bar struct {
	Name        string
	From, To    float64
	Start, Took time.Duration
	Held        bool // something was held: filesystems, or by a writer
	Error       string
}

// widths of the five parts, if there are all.
var widths = [5]float64{25, 15, 35, 10, 15}

var names = [5]string{"prepare", "hold", "frozen", "release", "finish"}

// Of lays out the times of a manifest. Of one without times it is empty.
func Of(m api.Manifest) Timeline {
	var t Timeline
	if len(m.Phases) == 0 {
		return t
	}
	phases := sorted(m.Phases)
	a := axisOf(phases)
	t.Parts = a.parts()
	for _, p := range phases {
		kind := Step
		if p.Window {
			kind = Inner
		}
		t.Rows = append(t.Rows, Row{kind, p.Name, p.Start, p.Duration, []Bar{a.bar(p)}})
	}
	for _, w := range m.Writers {
		t.Rows = append(t.Rows, writerRow(w, a))
	}
	from, to := a.window()
	for _, v := range m.Volumes {
		if v.Frozen && to > from {
			frozen := api.Phase{Name: "frozen", Start: from, Duration: to - from, Window: true}
			t.Rows = append(t.Rows, Row{Volume, cmp.Or(v.MountPoint, v.Volume), from, to - from, []Bar{a.bar(frozen)}})
		}
	}
	return t
}

// sorted is by time, and a phase before its parts. A manifest is a file: what cannot be is made what can.
func sorted(phases []api.Phase) []api.Phase {
	phases = slices.Clone(phases)
	for i := range phases {
		phases[i].Start, phases[i].Duration = possible(phases[i].Start), possible(phases[i].Duration)
	}
	slices.SortStableFunc(phases, func(a, b api.Phase) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(b.Duration, a.Duration))
	})
	return phases
}

// possible is a time that two of which can be added.
func possible(d time.Duration) time.Duration { return min(max(d, 0), 1<<60) }

// writerRow is of a writer; phases of which nobody knows when they were have no bar.
func writerRow(w api.Writer, a axis) Row {
	r := Row{Kind: Writer, Name: w.Name}
	for _, p := range w.Phases {
		if p.Window {
			r.Took = p.Duration
		}
		if p.Start > 0 {
			r.Bars = append(r.Bars, a.bar(p))
		}
	}
	slices.SortStableFunc(r.Bars, func(a, b Bar) int { return cmp.Compare(a.Start, b.Start) })
	if len(r.Bars) > 0 {
		r.Start = r.Bars[0].Start
	}
	return r
}

// axis is the borders of its parts: the beginning, the writers' hold, the window, the window's end, the hold's end, the end.
type axis [len(widths) + 1]time.Duration

func axisOf(phases []api.Phase) axis {
	var a axis
	first, last := time.Duration(-1), time.Duration(0)
	for _, p := range phases {
		a[5] = max(a[5], p.Start+p.Duration)
		if p.Window {
			if first < 0 {
				first = p.Start
			}
			last = max(last, p.Start+p.Duration)
		}
	}
	if first < 0 { // nothing was frozen: all of it is getting ready
		a[1], a[2], a[3], a[4] = a[5], a[5], a[5], a[5]
		return a
	}
	a[1], a[2], a[3], a[4] = first, first, last, last
	for _, p := range phases {
		switch {
		case p.Name == "freeze-writers" && p.Start <= first:
			a[1] = p.Start
		case p.Name == "thaw-writers" && p.Start >= last:
			a[4] = p.Start + p.Duration
		}
	}
	return a
}

func (a axis) window() (from, to time.Duration) { return a[2], a[3] }

// share is a part's, of the width.
func (a axis) share(part int) float64 {
	all := 0.0
	for i, w := range widths {
		if a[i+1] > a[i] {
			all += w
		}
	}
	if all == 0 || a[part+1] <= a[part] {
		return 0
	}
	return widths[part] / all
}

// place of an instant.
func (a axis) place(at time.Duration) float64 {
	x := 0.0
	for i := range widths {
		if at >= a[i+1] {
			x += a.share(i)
			continue
		}
		if at > a[i] {
			x += a.share(i) * float64(at-a[i]) / float64(a[i+1]-a[i])
		}
		break
	}
	return min(x, 1)
}

func (a axis) bar(p api.Phase) Bar {
	start, took := possible(p.Start), possible(p.Duration)
	return Bar{p.Name, a.place(start), a.place(start + took), start, took, p.Window, p.Error}
}

func (a axis) parts() []Part {
	var out []Part
	for i, name := range names {
		if a.share(i) > 0 {
			out = append(out, Part{name, a.place(a[i]), a.place(a[i+1]), a[i+1] - a[i], i == 2})
		}
	}
	return out
}
