// Package human writes numbers for people, in the terminal and on the status page.
package human

import (
	"fmt"
	"strconv"
	"time"
)

// Size of n bytes in powers of 1024, three figures.
func Size(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return strconv.FormatUint(n, 10) + " B"
	}
	value, unit := float64(n)/1024, 0
	for value >= 1023.5 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	digits := 0
	switch {
	case value < 9.995:
		digits = 2
	case value < 99.95:
		digits = 1
	}
	return fmt.Sprintf("%.*f %ciB", digits, value, units[unit])
}

// Share of used in total, in per cent; of nothing it is empty.
func Share(used, total uint64) string {
	if total == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f%%", 100*float64(used)/float64(total))
}

// Span is a duration with three figures and one unit; inside the freeze window microseconds matter.
func Span(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < time.Second:
		return figures(float64(d)/float64(time.Millisecond)) + " ms"
	case d < time.Minute:
		return figures(d.Seconds()) + " s"
	}
	return d.Round(time.Second).String()
}

func figures(v float64) string {
	switch {
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// Roughly is a duration for which nobody would vouch in detail: 45s, 12m, 5h 10m, 3d 4h.
func Roughly(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(1, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < day:
		return fmt.Sprintf("%dh %dm", d/time.Hour, d%time.Hour/time.Minute)
	case d < 100*day:
		return fmt.Sprintf("%dd %dh", d/day, d%day/time.Hour)
	}
	return "> 100d"
}

// Plural of a count: 1 volume, 2 volumes.
func Plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
