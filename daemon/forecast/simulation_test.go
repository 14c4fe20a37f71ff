package forecast

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// trace makes how much of a pool of 1,000,000 units is used, a value each 30 seconds, until it is full or ten days have passed.
type trace struct {
	name  string
	fills bool
	next  func(r *rand.Rand, at time.Duration, used float64) float64
}

const (
	size = 1_000_000
	tick = 30 * time.Second
)

// grow is so much of the pool in so long, with noise.
func grow(r *rand.Rand, part float64, in time.Duration) float64 {
	return part * size * float64(tick) / float64(in) * (1 + 0.5*r.NormFloat64())
}

func hour(at time.Duration) float64 { return math.Mod(at.Hours(), 24) }

func every(at, period time.Duration) bool { return at > 0 && at%period == 0 }

var traces = []trace{
	{"steady", true, func(r *rand.Rand, _ time.Duration, used float64) float64 { return used + grow(r, 0.8, 80*time.Hour) }},
	{"steady, with discards", true, func(r *rand.Rand, at time.Duration, used float64) float64 {
		return used + grow(r, 0.8, 80*time.Hour) + 0.0015*size*math.Sin(at.Seconds()/300)*0.1
	}},
	{"a burst each hour", true, func(r *rand.Rand, at time.Duration, used float64) float64 {
		if at%time.Hour < 2*time.Minute {
			return used + grow(r, 0.005, 2*time.Minute)
		}
		return used + grow(r, 0.4, 100*time.Hour)
	}},
	{"a burst each night", true, func(r *rand.Rand, at time.Duration, used float64) float64 {
		if h := hour(at); h >= 2 && h < 2.5 {
			return used + grow(r, 0.06, 30*time.Minute)
		}
		return used + grow(r, 0.8, 120*time.Hour)
	}},
	{"office hours", true, func(r *rand.Rand, at time.Duration, used float64) float64 {
		if h := hour(at); h >= 8 && h < 18 {
			return used + grow(r, 0.2, 10*time.Hour)
		}
		return used + grow(r, 0.005, 10*time.Hour)
	}},
	{"daily deletions, too few", true, func(r *rand.Rand, at time.Duration, used float64) float64 {
		used += grow(r, 0.2, 24*time.Hour)
		if every(at, 24*time.Hour) {
			used -= 0.06 * size
		}
		return used
	}},
	{"a deletion by hand", true, func(r *rand.Rand, at time.Duration, used float64) float64 {
		used += grow(r, 0.9, 60*time.Hour)
		if at == 37*time.Hour {
			used -= 0.15 * size
		}
		return used
	}},
	{"suddenly fast", true, func(r *rand.Rand, at time.Duration, used float64) float64 {
		if at > 50*time.Hour {
			return used + grow(r, 0.5, 5*time.Hour)
		}
		return used + grow(r, 0.1, 50*time.Hour)
	}},
	{"retention, each hour", false, func(r *rand.Rand, at time.Duration, used float64) float64 {
		used += grow(r, 0.1, time.Hour)
		if every(at, time.Hour) {
			used = 0.4*size + 0.01*size*r.Float64()
		}
		return used
	}},
	{"retention, each day", false, func(r *rand.Rand, at time.Duration, used float64) float64 {
		used += grow(r, 0.5, 24*time.Hour)
		if every(at, 24*time.Hour) {
			used = 0.3*size + 0.02*size*r.Float64()
		}
		return used
	}},
	{"idle", false, func(_ *rand.Rand, _ time.Duration, used float64) float64 { return used }},
	{"noise", false, func(r *rand.Rand, _ time.Duration, _ float64) float64 { return (0.6 + 0.0005*r.NormFloat64()) * size }},
	{"one burst", false, func(r *rand.Rand, at time.Duration, used float64) float64 {
		if at > 40*time.Hour && at < 40*time.Hour+5*time.Minute {
			return used + grow(r, 0.1, 5*time.Minute)
		}
		return used
	}},
}

// run makes a trace's values.
func (tr trace) run(seed uint64) []float64 {
	r := rand.New(rand.NewPCG(seed, 1))
	used, values := 0.2*size, []float64(nil)
	for at := time.Duration(0); at < 10*24*time.Hour && used < size; at += tick {
		used = max(0, tr.next(r, at, used))
		values = append(values, used)
	}
	return values
}

// linear is what predict_linear(used[6h], …) says: least squares, extrapolated.
func linear(values []float64) (time.Duration, bool) {
	values = values[max(0, len(values)-int(6*time.Hour/tick)):]
	if len(values) < enoughSamples {
		return 0, false
	}
	var x, y, xx, xy float64
	for i, v := range values {
		f := float64(i)
		x, y, xx, xy = x+f, y+v, xx+f*f, xy+f*v
	}
	n := float64(len(values))
	b := (n*xy - x*y) / (n*xx - x*x)
	a := (y - b*x) / n
	if b <= 0 {
		return Never, true
	}
	if left := ((size-a)/b - (n - 1)) * float64(tick); left < float64(Never) {
		return max(0, time.Duration(left)), true
	}
	return Never, true
}

// errorOf is how wrong a forecast is, as a factor: 2 if it is twice or half the truth; infinite for Never.
func errorOf(left, truth time.Duration) float64 {
	if left == Never {
		return math.Inf(1)
	}
	f := max(float64(left), float64(time.Second)) / float64(truth)
	return max(f, 1/f)
}

type figures struct{ hour, day, alarms []float64 }

func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	slices.Sort(v)
	return v[len(v)/2]
}

func mean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return 100 * sum / float64(len(v))
}

// compare replays values to the forecast and to the straight line: of those that fill the pool at their end it notes by which factor
// either is wrong when there is 1 h left, and 24 h; of others whether it says "full within 24 h" after the first four days.
func compare(values []float64, fills bool, o, l *figures) {
	var s Series
	end := time.Duration(len(values)) * tick
	for i, v := range values {
		at := time.Duration(i) * tick
		s.Add(at, uint64(v), size)
		truth := end - at - tick
		near := func(h time.Duration) bool { return truth >= h*5/6 && truth <= h*7/6 && i%4 == 0 }
		switch {
		case fills && (near(time.Hour) || near(24*time.Hour)):
			left, _ := s.Until(at, uint64(v))
			line, _ := linear(values[:i+1])
			if near(time.Hour) {
				o.hour, l.hour = append(o.hour, errorOf(left, truth)), append(l.hour, errorOf(line, truth))
			} else {
				o.day, l.day = append(o.day, errorOf(left, truth)), append(l.day, errorOf(line, truth))
			}
		case !fills && at > 4*24*time.Hour && i%40 == 0:
			left, known := s.Until(at, uint64(v))
			line, _ := linear(values[:i+1])
			alarm := map[bool]float64{true: 1}
			o.alarms = append(o.alarms, alarm[known && left < 24*time.Hour])
			l.alarms = append(l.alarms, alarm[line < 24*time.Hour])
		}
	}
}

// TestSimulation compares the forecast with the plain linear one. For traces that fill the pool: by which factor it is wrong
// when there is 1 h left, and 24 h; for those that never do: how often it says "full within 24 h".
func TestSimulation(t *testing.T) {
	var b strings.Builder
	fmt.Fprintf(&b, "%-26s %21s %21s\n%-26s %10s %10s %10s %10s\n", "", "1 h before", "24 h before", "fills up", "forecast", "linear", "forecast", "linear")
	var ours, theirs figures
	verdict := func(tr trace) (o, l figures) {
		for seed := range uint64(3) {
			compare(tr.run(seed), tr.fills, &o, &l)
		}
		return o, l
	}
	for _, tr := range traces {
		if tr.fills {
			o, l := verdict(tr)
			fmt.Fprintf(&b, "%-26s %10.2f %10.2f %10.2f %10.2f\n", tr.name, median(o.hour), median(l.hour), median(o.day), median(l.day))
			ours.hour, theirs.hour = append(ours.hour, o.hour...), append(theirs.hour, l.hour...)
			ours.day, theirs.day = append(ours.day, o.day...), append(theirs.day, l.day...)
		}
	}
	fmt.Fprintf(&b, "%-26s %21s\n", "never does", "false alarms")
	for _, tr := range traces {
		if !tr.fills {
			o, l := verdict(tr)
			fmt.Fprintf(&b, "%-26s %9.1f%% %9.1f%%\n", tr.name, mean(o.alarms), mean(l.alarms))
			ours.alarms, theirs.alarms = append(ours.alarms, o.alarms...), append(theirs.alarms, l.alarms...)
		}
	}
	t.Logf("error as a factor, median of three runs\n%s", b.String())
	for what, bad := range map[string]bool{
		"1 h before, all traces":            median(ours.hour) > 1.2,
		"24 h before, against the straight": median(ours.day) > median(theirs.day),
		"false alarms":                      mean(ours.alarms) > 2 || mean(ours.alarms) > mean(theirs.alarms),
	} {
		if bad {
			t.Errorf("%s: worse than it was: ours %+v", what, []float64{median(ours.hour), median(ours.day), mean(ours.alarms)})
		}
	}
}
