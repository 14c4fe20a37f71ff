package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Unlimited as a number of sets means all of them.
const Unlimited = -1

// Retention says which sets of a policy are kept. Words and meaning are those of restic's forget: the rules are alternatives, a
// set is kept if any of them keeps it. Without any rule everything is kept.
type Retention struct {
	Last    int // the newest sets, 0 to 100000, or Unlimited
	Hourly  int // the newest set of each of so many hours that have one; and so on
	Daily   int
	Weekly  int // ISO 8601: from Monday
	Monthly int
	Yearly  int

	Within        Span // all sets younger than this, counted back from the newest
	WithinHourly  Span // the newest set of each hour, as long as it is younger than this
	WithinDaily   Span
	WithinWeekly  Span
	WithinMonthly Span
	WithinYearly  Span

	// Labels keep the sets that have one of them: "name", or "name=value"; at most 64.
	Labels []string
	// Minimum is how many undamaged sets are left at least, whatever the rules say: the newest. Default 1.
	Minimum int
	// Location is where hours and days begin; nil: where the host is. An hour that a clock repeats in autumn is two hours.
	Location *time.Location
}

// Empty reports whether there is no rule, so that everything is kept.
func (r Retention) Empty() bool {
	for _, n := range []int{r.Last, r.Hourly, r.Daily, r.Weekly, r.Monthly, r.Yearly} {
		if n != 0 {
			return false
		}
	}
	for _, s := range []Span{r.Within, r.WithinHourly, r.WithinDaily, r.WithinWeekly, r.WithinMonthly, r.WithinYearly} {
		if !s.Zero() {
			return false
		}
	}
	return len(r.Labels) == 0
}

// Pins reports whether one of Labels keeps a set that has these.
func (r Retention) Pins(labels map[string]string) bool {
	return slices.ContainsFunc(r.Labels, func(rule string) bool { return LabelFits(rule, labels) })
}

// LabelFits reports whether labels have what a rule asks for: "name", or "name=value".
func LabelFits(rule string, labels map[string]string) bool {
	name, value, exact := strings.Cut(rule, "=")
	got, found := labels[name]
	return found && (!exact || got == value)
}

var retentionSchema = mapping(
	key("keep_last", func(r *Retention) *int { return &r.Last }, number()),
	key("keep_hourly", func(r *Retention) *int { return &r.Hourly }, number()),
	key("keep_daily", func(r *Retention) *int { return &r.Daily }, number()),
	key("keep_weekly", func(r *Retention) *int { return &r.Weekly }, number()),
	key("keep_monthly", func(r *Retention) *int { return &r.Monthly }, number()),
	key("keep_yearly", func(r *Retention) *int { return &r.Yearly }, number()),
	key("keep_within", func(r *Retention) *Span { return &r.Within }, span()),
	key("keep_within_hourly", func(r *Retention) *Span { return &r.WithinHourly }, span()),
	key("keep_within_daily", func(r *Retention) *Span { return &r.WithinDaily }, span()),
	key("keep_within_weekly", func(r *Retention) *Span { return &r.WithinWeekly }, span()),
	key("keep_within_monthly", func(r *Retention) *Span { return &r.WithinMonthly }, span()),
	key("keep_within_yearly", func(r *Retention) *Span { return &r.WithinYearly }, span()),
	key("keep_labels", func(r *Retention) *[]string { return &r.Labels }, distinct(list(text("a label", 320, checkLabelRule), 1, 64))),
	key("minimum", func(r *Retention) *int { return &r.Minimum }, integer(0, 100_000)),
	key("time_zone", func(r *Retention) **time.Location { return &r.Location }, scalar("a time zone", parseLocation)),
)

// number reads how many sets a rule keeps.
func number() reader[int] {
	count := integer(0, 100_000)
	return reader[int]{read: func(d *decoder, path string, n *yaml.Node, into *int) {
		if n.Kind == yaml.ScalarNode && n.Value == "unlimited" {
			*into = Unlimited
			return
		}
		count.read(d, path, n, into)
	}}
}

func span() reader[Span] { return scalar("a span of time", ParseSpan) }

// checkLabelRule is the rule for what names a label, with or without its value.
func checkLabelRule(s string) error {
	name, _, _ := strings.Cut(s, "=")
	return checkLabel(name)
}

// parseLocation reads local, or the name of a time zone of the host's database: UTC, Europe/Berlin.
func parseLocation(text string) (*time.Location, error) {
	if text == "local" {
		return nil, nil
	}
	l, err := time.LoadLocation(text)
	if err != nil || text == "" || text == "Local" {
		return nil, fmt.Errorf("%s is no time zone of this host: write local, UTC, or a name like Europe/Berlin (see timedatectl list-timezones)", quote(text))
	}
	return l, nil
}

// checkRetention looks at the keys that depend on each other.
func checkRetention(d *decoder, r Retention) {
	switch {
	case !d.has("retention") || d.broken("retention"):
	case r.Empty():
		d.warnf("retention", "no rule is there, so nothing is ever dropped: add keep_last, keep_daily and the like")
	case r.Last == Unlimited:
		d.warnf("retention.keep_last", "unlimited keeps every set")
	}
}
