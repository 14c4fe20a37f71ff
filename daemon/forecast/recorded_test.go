package forecast

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// recorded reads a trace that make traces recorded: blocks that were used, once a second.
func recorded(t *testing.T, path string) (used []float64) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		for _, word := range strings.Fields(line) {
			n, err := strconv.ParseFloat(word, 64)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			used = append(used, n)
		}
	}
	return used
}

// stretched is a trace as if it had taken so long, a value each tick, and of a pool of which it takes part at its fullest. If part is 1 it
// ends there: the pool is full.
func stretched(used []float64, over time.Duration, part float64) (values []float64) {
	most := slices.Max(used)
	if part == 1 {
		used = used[:slices.Index(used, most)+1]
	}
	n := int(over / tick)
	for i := range n {
		at := float64(i) * float64(len(used)-1) / float64(n-1)
		before := min(int(at), len(used)-2)
		share := at - float64(before)
		values = append(values, (used[before]*(1-share)+used[before+1]*share)/most*part*size)
	}
	return values
}

// factor is the median, or that the forecast sees no end.
func factor(v []float64) string {
	if m := median(v); m < 1000 {
		return fmt.Sprintf("%.2f", m)
	}
	return "no end"
}

// TestRecorded does what TestSimulation does, with what databases did in the lab, with a set taken and one dropped every 20 seconds. Their
// seven minutes are stretched to half a day for the figure at 1 h, and to ten days for that at 24 h: a set each half hour, and each
// eleven hours. Those that only change rows are in a pool of which they use 80 % at most.
func TestRecorded(t *testing.T) {
	var b strings.Builder
	fmt.Fprintf(&b, "%-26s %21s %21s\n%-26s %10s %10s %10s %10s\n", "", "1 h before", "24 h before", "fills up", "forecast", "linear", "forecast", "linear")
	paths, err := filepath.Glob("testdata/*-grows.txt")
	if err != nil || len(paths) < 2 {
		t.Fatalf("%v, %v", paths, err)
	}
	var ours, theirs figures
	for _, path := range paths {
		used := recorded(t, path)
		var o, l, day, dayLine figures
		compare(stretched(used, 12*time.Hour, 1), true, &o, &l)
		compare(stretched(used, 10*24*time.Hour, 1), true, &day, &dayLine)
		o.day, l.day = day.day, dayLine.day
		fmt.Fprintf(&b, "%-26s %10s %10s %10s %10s\n", filepath.Base(path), factor(o.hour), factor(l.hour), factor(o.day), factor(l.day))
		ours.hour, theirs.hour = append(ours.hour, o.hour...), append(theirs.hour, l.hour...)
		ours.day, theirs.day = append(ours.day, o.day...), append(theirs.day, l.day...)
	}
	fmt.Fprintf(&b, "%-26s %21s\n%-26s %10s %10s\n", "", "false alarms", "never does", "forecast", "linear")
	paths, err = filepath.Glob("testdata/*-changes.txt")
	if err != nil || len(paths) < 2 {
		t.Fatalf("%v, %v", paths, err)
	}
	for _, path := range paths {
		var o, l figures
		compare(stretched(recorded(t, path), 10*24*time.Hour, 0.8), false, &o, &l)
		fmt.Fprintf(&b, "%-26s %9.1f%% %9.1f%%\n", filepath.Base(path), mean(o.alarms), mean(l.alarms))
		ours.alarms, theirs.alarms = append(ours.alarms, o.alarms...), append(theirs.alarms, l.alarms...)
	}
	t.Logf("error as a factor, median\n%s", b.String())
	for what, bad := range map[string]bool{
		"1 h before":   median(ours.hour) > median(theirs.hour),
		"24 h before":  median(ours.day) > median(theirs.day),
		"false alarms": mean(ours.alarms) > mean(theirs.alarms),
	} {
		if bad {
			t.Errorf("%s: worse than a straight line", what)
		}
	}
}
