package retention

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/config"
)

// slow is the obvious way: each rule by itself, over all sets, in words that one can check.
func slow(r config.Retention, sets []Set, now time.Time) map[string]bool {
	keep := map[string]bool{}
	var good []Set
	for _, s := range newestFirst(sets) {
		damagedButNewest := s.Damaged && len(good) == 0
		if r.Empty() || s.Created.After(now) || s.Protected != "" || s.Passing || damagedButNewest {
			keep[s.ID] = true
		}
		for _, label := range r.Labels {
			keep[s.ID] = keep[s.ID] || has(s, label)
		}
		if !s.Damaged && !s.Passing && !s.Created.After(now) {
			good = append(good, s)
		}
	}
	local := func(s Set) time.Time { return s.Created.In(r.Location) }
	keepEach := func(count int, within config.Span, same func(a, b time.Time) bool) {
		periods := 0
		for i, s := range good {
			first := !slices.ContainsFunc(good[:i], func(newer Set) bool { return same(local(newer), local(s)) })
			if first {
				periods++
			}
			young := !within.Zero() && local(s).After(within.Before(local(good[0])))
			counted := count == config.Unlimited || periods <= count
			if first && (young || counted && count != 0) {
				keep[s.ID] = true
			}
			if i == len(good)-1 && (young || count == config.Unlimited || periods < count) {
				keep[s.ID] = true
			}
		}
	}
	never := func(a, b time.Time) bool { return false }
	for i, s := range good {
		if i < r.Last || r.Last == config.Unlimited {
			keep[s.ID] = true
		}
	}
	keepEach(0, r.Within, never)
	hour := func(a, b time.Time) bool {
		_, east := a.Zone()
		_, other := b.Zone()
		return a.YearDay() == b.YearDay() && a.Year() == b.Year() && a.Hour() == b.Hour() && east == other
	}
	day := func(a, b time.Time) bool { return a.YearDay() == b.YearDay() && a.Year() == b.Year() }
	weeks := func(a, b time.Time) bool {
		monday := func(t time.Time) string { return t.AddDate(0, 0, -(int(t.Weekday())+6)%7).Format(time.DateOnly) }
		return monday(a) == monday(b)
	}
	month := func(a, b time.Time) bool { return a.Month() == b.Month() && a.Year() == b.Year() }
	year := func(a, b time.Time) bool { return a.Year() == b.Year() }
	for _, rule := range []struct {
		count  int
		within config.Span
		same   func(a, b time.Time) bool
	}{{r.Hourly, r.WithinHourly, hour}, {r.Daily, r.WithinDaily, day}, {r.Weekly, r.WithinWeekly, weeks}, {r.Monthly, r.WithinMonthly, month}, {r.Yearly, r.WithinYearly, year}} {
		keepEach(rule.count, config.Span{}, rule.same)
		if !rule.within.Zero() {
			keepEach(0, rule.within, rule.same)
		}
	}
	for left := 0; ; left = 0 {
		for _, s := range good {
			if keep[s.ID] {
				left++
			}
		}
		i := slices.IndexFunc(good, func(s Set) bool { return !keep[s.ID] })
		if left >= r.Minimum || i < 0 {
			return keep
		}
		keep[good[i].ID] = true
	}
}

func TestModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	var places []*time.Location
	for _, name := range []string{"UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu"} {
		l, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, l)
	}
	few := func() int { return []int{0, 0, 0, 1, 2, 5, 30, config.Unlimited}[rnd.IntN(8)] }
	span := func() config.Span {
		if rnd.IntN(3) > 0 {
			return config.Span{}
		}
		return config.Span{Years: rnd.IntN(2), Months: rnd.IntN(3), Days: rnd.IntN(20), Hours: rnd.IntN(30)}
	}
	for round := range 3000 {
		r := config.Retention{
			Last: few(), Hourly: few(), Daily: few(), Weekly: few(), Monthly: few(), Yearly: few(),
			Within: span(), WithinHourly: span(), WithinDaily: span(), WithinWeekly: span(), WithinMonthly: span(), WithinYearly: span(),
			Minimum: rnd.IntN(4), Location: places[rnd.IntN(len(places))],
		}
		if rnd.IntN(4) == 0 {
			r.Labels = []string{"a", "b=1"}
		}
		now := time.Date(2026, time.Month(1+rnd.IntN(12)), 1+rnd.IntN(28), rnd.IntN(24), 0, 0, 0, time.UTC)
		when, step := now, []time.Duration{20 * time.Minute, time.Hour, 9 * time.Hour, 40 * time.Hour, 700 * time.Hour}[rnd.IntN(5)]
		if rnd.IntN(5) == 0 {
			when = when.Add(3 * step) // some are from the future
		}
		var sets []Set
		for i := range rnd.IntN(60) {
			s := Set{ID: fmt.Sprint(i), Created: when}
			if rnd.IntN(6) == 0 {
				s.Protected = "pinned"
			}
			if rnd.IntN(6) == 0 {
				s.Labels = map[string]string{"b": fmt.Sprint(rnd.IntN(2))}
			}
			s.Damaged = rnd.IntN(8) == 0
			s.Passing = rnd.IntN(8) == 0
			sets = append(sets, s)
			when = when.Add(-time.Duration(rnd.Int64N(int64(2 * step))))
		}
		want := slow(r, sets, now)
		for _, v := range Apply(r, sets, now) {
			if v.Keep != want[v.ID] {
				t.Fatalf("seed %d, round %d: set %s: kept %t (%q), by the slow model %t\nrules %+v\nsets %+v", seed, round, v.ID, v.Keep, v.Reasons, want[v.ID], r, sets)
			}
		}
		gone := Expendable(r, sets, now)
		good := 0
		for _, s := range sets {
			if !s.Damaged && !s.Passing && !s.Created.After(now) && !slices.Contains(gone, s.ID) {
				good++
			}
			if slices.Contains(gone, s.ID) && (s.Protected != "" || s.Passing || s.Created.After(now)) {
				t.Fatalf("seed %d, round %d: %+v is expendable", seed, round, s)
			}
		}
		all := len(slices.DeleteFunc(slices.Clone(sets), func(s Set) bool { return s.Damaged || s.Passing || s.Created.After(now) }))
		if good < min(all, max(r.Minimum, 1)) {
			t.Fatalf("seed %d, round %d: %d good sets are left of %d", seed, round, good, all)
		}
	}
}

// has is written out here once more: the model must not repeat a mistake of what it is held against.
func has(s Set, label string) bool {
	name, value, exact := strings.Cut(label, "=")
	got, found := s.Labels[name]
	return found && (!exact || got == value)
}
