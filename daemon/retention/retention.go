// Package retention decides which snapshot sets of a policy are kept and which are dropped. It is pure: sets and an instant in, a
// verdict with its reasons for each set out. Who deletes is somebody else.
//
// Words and meaning are those of restic's "forget" (keep-last, keep-hourly, ..., keep-within; restic manual, "Removing backup
// snapshots"), so that nobody has to learn a second language: the rules are alternatives, a set is kept if any of them keeps it.
//
// Clocks jump. So the present instant decides one thing only, which sets are from the future: these are kept, and count for
// nothing. Everything else is measured from the newest set, so that a clock which runs a year ahead drops no more than one that
// is right.
package retention

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/fermata-project/fermata/config"
)

// Set is what has to be known of a snapshot set.
type Set struct {
	ID      string
	Created time.Time
	Labels  map[string]string
	// Protected says why the set must not be dropped: it is mounted, it is being copied; empty: it may be.
	Protected string
	// Passing sets are taken for a use, and deleted after it: they are kept until then, and count for nothing.
	Passing bool
	// Damaged sets keep no place of a good one, and are dropped as soon as a newer good one exists.
	Damaged bool
}

// Verdict is what becomes of a set, and why.
type Verdict struct {
	ID      string
	Keep    bool
	Reasons []string // at least one
}

// rule keeps the newest set of each period: of count periods, or of those within span.
type rule struct {
	name   string
	count  int
	within config.Span
	period func(t time.Time) string // nil: each set is a period of its own
}

func rules(r config.Retention) []rule {
	each := func(name string, count int, within config.Span, period func(time.Time) string) []rule {
		return []rule{{name, count, config.Span{}, period}, {"within " + within.String() + ", " + name, 0, within, period}}
	}
	return slices.Concat(
		[]rule{{"last", r.Last, config.Span{}, nil}, {"within " + r.Within.String(), 0, r.Within, nil}},
		each("hourly", r.Hourly, r.WithinHourly, func(t time.Time) string { return t.Format("2006-01-02 15h -0700") }),
		each("daily", r.Daily, r.WithinDaily, func(t time.Time) string { return t.Format(time.DateOnly) }),
		each("weekly", r.Weekly, r.WithinWeekly, week),
		each("monthly", r.Monthly, r.WithinMonthly, func(t time.Time) string { return t.Format("2006-01") }),
		each("yearly", r.Yearly, r.WithinYearly, func(t time.Time) string { return t.Format("2006") }),
	)
}

func week(t time.Time) string {
	year, n := t.ISOWeek()
	return fmt.Sprintf("%d-W%02d", year, n)
}

// Apply says what becomes of each set at the instant now: newest first.
func Apply(r config.Retention, sets []Set, now time.Time) []Verdict {
	sets = newestFirst(sets)
	keep := make([][]string, len(sets))
	var good []int // those that count, newest first
	for i, s := range sets {
		switch {
		case r.Empty():
			keep[i] = append(keep[i], "no rule drops any set")
		case s.Created.After(now):
			keep[i] = append(keep[i], "it is from the future: the clock was changed")
		case s.Passing:
			keep[i] = append(keep[i], "it was taken for a use, and is deleted after it")
		case !s.Damaged:
			good = append(good, i)
		case len(good) == 0:
			keep[i] = append(keep[i], "damaged, but there is no newer one")
		}
		if s.Protected != "" {
			keep[i] = append(keep[i], s.Protected)
		}
		for _, label := range r.Labels {
			if config.LabelFits(label, s.Labels) {
				keep[i] = append(keep[i], "label "+label)
			}
		}
	}
	in := cmp.Or(r.Location, time.Local)
	for _, rule := range rules(r) {
		rule.apply(in, sets, good, keep)
	}
	left := 0
	for _, i := range good {
		if len(keep[i]) > 0 {
			left++
		}
	}
	for _, i := range good {
		if len(keep[i]) == 0 && left < r.Minimum {
			keep[i] = append(keep[i], fmt.Sprintf("minimum of %d", r.Minimum))
			left++
		}
	}
	verdicts := make([]Verdict, len(sets))
	for i, s := range sets {
		verdicts[i] = Verdict{ID: s.ID, Keep: len(keep[i]) > 0, Reasons: keep[i]}
		switch {
		case verdicts[i].Keep:
		case s.Damaged:
			verdicts[i].Reasons = []string{"damaged, and there is a newer one"}
		default:
			verdicts[i].Reasons = []string{"no rule keeps it"}
		}
	}
	return verdicts
}

// apply adds the rule's reasons to those of the good sets. As in restic (0.18; 0.14 did not yet), the oldest set is kept, too, as long as
// fewer periods have a set than are asked for: so that a young history reaches as far back as it can. What is exactly as old as the span
// is too old.
func (r rule) apply(in *time.Location, sets []Set, good []int, keep [][]string) {
	if len(good) == 0 || r.count == 0 && r.within.Zero() {
		return
	}
	begin := r.within.Before(sets[good[0]].Created.In(in))
	limited := r.within.Zero() && r.count != config.Unlimited
	seen := map[string]bool{}
	for n, i := range good {
		t := sets[i].Created.In(in)
		if !r.within.Zero() && !t.After(begin) {
			return
		}
		period, reason := strconv.Itoa(n), r.name
		if r.period != nil {
			period = r.period(t)
			reason += " " + period
		}
		switch {
		case !seen[period] && limited && len(seen) == r.count:
			return
		case !seen[period]:
			keep[i] = append(keep[i], reason)
		case n == len(good)-1 && !(limited && len(seen) == r.count):
			keep[i] = append(keep[i], r.name+", the oldest")
		}
		seen[period] = true
	}
}

// Expendable lists what may be deleted to gain room, the least valuable first: what the rules drop, oldest first, then what
// they keep, oldest first. It never touches what is protected or passing, damages no minimum, and leaves one good set at least. Sets from the
// future are left alone, and count for nothing.
func Expendable(r config.Retention, sets []Set, now time.Time) []string {
	verdicts := Apply(r, sets, now)
	sets = newestFirst(sets)
	left := 0
	for _, s := range sets {
		if !s.Damaged && !s.Passing && !s.Created.After(now) { // as in Apply
			left++
		}
	}
	var out []string
	for _, kept := range []bool{false, true} {
		for i := len(sets) - 1; i >= 0; i-- {
			s := sets[i]
			if verdicts[i].Keep != kept || s.Protected != "" || s.Passing || s.Created.After(now) {
				continue
			}
			if !s.Damaged {
				if left <= max(r.Minimum, 1) {
					continue
				}
				left--
			}
			out = append(out, s.ID)
		}
	}
	return out
}

func newestFirst(sets []Set) []Set {
	return slices.SortedFunc(slices.Values(sets), func(a, b Set) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(b.ID, a.ID))
	})
}
