package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// The bars of the freeze window (docs/performance.md).
const (
	barFloor   = 1.5 // times the floor, at most
	barClassic = 200 // times shorter than the classic recipe, at least
)

// report collects samples; its exported form is the JSON output.
type report struct {
	Kernel string `json:"kernel"`
	CPUs   int    `json:"cpus"`
	Rows   []*row `json:"rows"`
}

// row is one contender's result for one size of set. Durations are nanoseconds.
type row struct {
	Provider  string  `json:"provider"`
	Contender string  `json:"contender"`
	Volumes   int     `json:"volumes"`
	Rounds    int     `json:"rounds"`
	Window    *spread `json:"window,omitempty"`
	Whole     *spread `json:"whole,omitempty"`
	// Stall is the longest of an application, in rounds of their own.
	Stall       *spread          `json:"stall,omitempty"`
	StallRounds int              `json:"stall_rounds,omitempty"`
	Phases      map[string]int64 `json:"phase_medians_ns,omitempty"` // of the window
	// Ratios of medians; of the two floors, to the lower one.
	WindowToFloor   float64 `json:"window_to_floor,omitempty"`
	ClassicToWindow float64 `json:"classic_to_window,omitempty"`
	WholeToLvcreate float64 `json:"whole_to_lvcreate,omitempty"`
	StallToLvcreate float64 `json:"stall_to_lvcreate,omitempty"`

	samples []sample
}

// spread sums up a list of times. P99 of fewer than 100 rounds is the longest.
type spread struct {
	Median int64 `json:"median_ns"`
	P99    int64 `json:"p99_ns"`
	Min    int64 `json:"min_ns"`
	Max    int64 `json:"max_ns"`
}

func newReport() *report { return &report{Kernel: release(), CPUs: runtime.NumCPU()} }

func (r *report) row(provider, contender string, volumes int) *row {
	for _, w := range r.Rows {
		if w.Provider == provider && w.Contender == contender && w.Volumes == volumes {
			return w
		}
	}
	return nil
}

func (r *report) add(provider, contender string, volumes int, s sample) {
	w := r.row(provider, contender, volumes)
	if w == nil {
		w = &row{Provider: provider, Contender: contender, Volumes: volumes}
		r.Rows = append(r.Rows, w)
	}
	w.samples = append(w.samples, s)
	if s.stall > 0 {
		w.StallRounds++
	} else {
		w.Rounds++
	}
}

// sum computes medians and ratios.
func (r *report) sum() {
	slices.SortStableFunc(r.Rows, func(a, b *row) int {
		return cmp.Or(slices.Index(order, a.Provider)-slices.Index(order, b.Provider), a.Volumes-b.Volumes)
	})
	for _, w := range r.Rows {
		w.Window = spreadOf(w.samples, func(s sample) time.Duration { return s.window })
		w.Whole = spreadOf(w.samples, func(s sample) time.Duration { return s.whole })
		w.Stall = spreadOf(w.samples, func(s sample) time.Duration { return s.stall })
		w.Phases = phaseMedians(w.samples)
	}
	for _, w := range r.Rows {
		of := func(contender string, get func(*row) *spread) float64 {
			if o := r.row(w.Provider, contender, w.Volumes); o != nil {
				return ratio(get(w), get(o))
			}
			return 0
		}
		w.WindowToFloor = max(of(floorInTurn, window), of(floorTogether, window))
		if inverse := of("classic", window); inverse > 0 {
			w.ClassicToWindow = 1 / inverse
		}
		w.WholeToLvcreate = of("lvcreate", func(w *row) *spread { return w.Whole })
		w.StallToLvcreate = of("lvcreate", func(w *row) *spread { return w.Stall })
	}
}

func window(w *row) *spread { return w.Window }

func ratio(a, b *spread) float64 {
	if a == nil || b == nil || b.Median == 0 {
		return 0
	}
	return float64(a.Median) / float64(b.Median)
}

// spreadOf sums up one figure of the samples; nil if they do not have it.
func spreadOf(samples []sample, get func(sample) time.Duration) *spread {
	var all []int64
	for _, s := range samples {
		if d := get(s); d > 0 {
			all = append(all, int64(d))
		}
	}
	if len(all) == 0 {
		return nil
	}
	slices.Sort(all)
	return &spread{Median: rank(all, 50), P99: rank(all, 99), Min: all[0], Max: all[len(all)-1]}
}

// rank is the smallest value that at least p percent of the sorted ones do not exceed.
func rank(sorted []int64, p int) int64 {
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

func phaseMedians(samples []sample) map[string]int64 {
	all := map[string][]int64{}
	for _, s := range samples {
		for _, p := range s.phases {
			all[p.Name] = append(all[p.Name], int64(p.Duration))
		}
	}
	if len(all) == 0 {
		return nil
	}
	out := map[string]int64{}
	for name, list := range all {
		slices.Sort(list)
		out[name] = rank(list, 50)
	}
	return out
}

// missed names the bars that were missed.
func (r *report) missed() []string {
	r.sum()
	var out []string
	for _, w := range r.Rows {
		if w.Contender != "fermata" {
			continue
		}
		volumes := fmt.Sprintf("%d volumes of %s", w.Volumes, w.Provider)
		if w.WindowToFloor > barFloor {
			out = append(out, fmt.Sprintf("the freeze window of %s is %.2f × the floor, and should be at most %v × (%d rounds)", volumes, w.WindowToFloor, barFloor, w.Rounds))
		}
		if w.ClassicToWindow > 0 && w.ClassicToWindow < barClassic {
			out = append(out, fmt.Sprintf("the freeze window of %s is %.0f × shorter than the classic recipe's, and should be %d × (%d rounds)", volumes, w.ClassicToWindow, barClassic, w.Rounds))
		}
		if w.WholeToLvcreate > 1 {
			out = append(out, fmt.Sprintf("the whole operation on %s takes %.2f × the time of as many lvcreate -s, and should not be slower (%d rounds)", volumes, w.WholeToLvcreate, w.Rounds))
		}
		if w.StallToLvcreate > 1 {
			out = append(out, fmt.Sprintf("an application on %s stalls %.2f × as long as with lvcreate -s, and should not stall longer", volumes, w.StallToLvcreate))
		}
	}
	return out
}

func (r *report) json() (string, error) {
	r.sum()
	b, err := json.Marshal(r)
	return string(b), err
}

func (r *report) table() string {
	r.sum()
	var b strings.Builder
	fmt.Fprintf(&b, "Linux %s, %d CPU. Times in ms, medians; p99 of fewer than 100 rounds is the longest.\n\n", r.Kernel, r.CPUs)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "provider\tvolumes\t\trounds\twindow\tmin\tp99\t× floor\tclassic ÷\twhole\tmin\tp99\t× lvcreate\t")
	for _, w := range r.Rows {
		if w.Rounds > 0 {
			fmt.Fprintf(t, "%s\t%d\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t\n", w.Provider, w.Volumes, w.Contender, w.Rounds, w.Window,
				number(w.WindowToFloor, "%.2f"), number(w.ClassicToWindow, "%.0f"), w.Whole, number(w.WholeToLvcreate, "%.2f"))
		}
	}
	t.Flush()
	b.WriteString("\nLongest stall of an application that writes 4 KiB and synchronises it every millisecond (1 volume, ms)\n\n")
	t = tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "provider\tduring\trounds\tmedian\tmin\tmax\t× lvcreate\t")
	for _, w := range r.Rows {
		if w.Stall != nil {
			fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t\n", w.Provider, w.Contender, w.StallRounds, milliseconds(w.Stall.Median), milliseconds(w.Stall.Min), milliseconds(w.Stall.Max),
				number(w.StallToLvcreate, "%.2f"))
		}
	}
	t.Flush()
	b.WriteString("\nWhere the window goes (ms, medians)\n\n")
	t = tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "provider\tvolumes\t\t"+strings.Join(windowPhases, "\t")+"\t")
	for _, w := range r.Rows {
		if w.Phases == nil {
			continue
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t", w.Provider, w.Volumes, w.Contender)
		for _, p := range windowPhases {
			fmt.Fprintf(t, "%s\t", milliseconds(w.Phases[p]))
		}
		fmt.Fprintln(t)
	}
	t.Flush()
	return b.String()
}

var windowPhases = []string{"freeze", "pre-commit", "commit", "post-commit", "thaw"}

// String is median, minimum and p99, as three columns.
func (s *spread) String() string {
	if s == nil {
		return "\t\t"
	}
	return milliseconds(s.Median) + "\t" + milliseconds(s.Min) + "\t" + milliseconds(s.P99)
}

func milliseconds(ns int64) string {
	ms := float64(ns) / 1e6
	if ms >= 100 {
		return fmt.Sprintf("%.0f", ms)
	}
	return fmt.Sprintf("%.3f", ms)
}

func number(x float64, format string) string {
	if x == 0 {
		return ""
	}
	return fmt.Sprintf(format, x)
}
