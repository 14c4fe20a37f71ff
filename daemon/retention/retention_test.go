package retention

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/config"
)

// at reads a local time in Berlin.
func at(t *testing.T, text string) time.Time {
	t.Helper()
	when, err := time.ParseInLocation("2006-01-02 15:04", text, berlin(t))
	if err != nil {
		t.Fatal(err)
	}
	return when
}

func berlin(t *testing.T) *time.Location {
	t.Helper()
	l, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// history makes sets whose ids are their times.
func history(t *testing.T, times ...string) []Set {
	var sets []Set
	for _, text := range times {
		sets = append(sets, Set{ID: text, Created: at(t, text)})
	}
	return sets
}

// kept lists what is kept, oldest first.
func kept(r config.Retention, sets []Set, now time.Time) string {
	var ids []string
	for _, v := range Apply(r, sets, now) {
		if v.Keep {
			ids = append(ids, v.ID)
		}
	}
	slices.Reverse(ids)
	return strings.Join(ids, ", ")
}

func TestRules(t *testing.T) {
	days := history(t, "2026-11-01 10:00", "2026-11-02 10:00", "2026-11-02 22:00", "2026-11-03 10:00", "2026-11-04 10:00")
	for _, c := range []struct {
		name string
		r    config.Retention
		sets []Set
		want string
	}{
		{"no rule", config.Retention{Minimum: 1}, days, "2026-11-01 10:00, 2026-11-02 10:00, 2026-11-02 22:00, 2026-11-03 10:00, 2026-11-04 10:00"},
		{"last", config.Retention{Last: 2}, days, "2026-11-03 10:00, 2026-11-04 10:00"},
		{"all of the last", config.Retention{Last: config.Unlimited}, days, "2026-11-01 10:00, 2026-11-02 10:00, 2026-11-02 22:00, 2026-11-03 10:00, 2026-11-04 10:00"},
		{"the newest of each day", config.Retention{Daily: 3}, days, "2026-11-02 22:00, 2026-11-03 10:00, 2026-11-04 10:00"},
		{"every day", config.Retention{Daily: config.Unlimited}, days, "2026-11-01 10:00, 2026-11-02 22:00, 2026-11-03 10:00, 2026-11-04 10:00"},
		{"the oldest while there are too few", config.Retention{Weekly: 9}, history(t, "2026-11-02 10:00", "2026-11-03 10:00", "2026-11-04 10:00"),
			"2026-11-02 10:00, 2026-11-04 10:00"},
		{"ISO weeks", config.Retention{Weekly: 2}, history(t, "2026-12-27 10:00", "2026-12-28 10:00", "2027-01-03 10:00", "2027-01-04 10:00"),
			"2027-01-03 10:00, 2027-01-04 10:00"},
		{"months and years", config.Retention{Monthly: 2, Yearly: 2}, history(t, "2024-05-01 10:00", "2025-05-01 10:00", "2026-09-01 10:00", "2026-10-01 10:00", "2026-11-01 10:00"),
			"2025-05-01 10:00, 2026-10-01 10:00, 2026-11-01 10:00"},
		{"within, from the newest", config.Retention{Within: config.Span{Days: 1, Hours: 1}}, days, "2026-11-03 10:00, 2026-11-04 10:00"},
		{"exactly as old as the span", config.Retention{Within: config.Span{Days: 1}}, days, "2026-11-04 10:00"},
		{"daily within", config.Retention{WithinDaily: config.Span{Days: 2, Hours: 1}}, days, "2026-11-02 22:00, 2026-11-03 10:00, 2026-11-04 10:00"},
		{"a minimum", config.Retention{Last: 1, Minimum: 3}, days, "2026-11-02 22:00, 2026-11-03 10:00, 2026-11-04 10:00"},
		{"two rules", config.Retention{Last: 1, Yearly: 1}, days, "2026-11-04 10:00"},
	} {
		c.r.Location = berlin(t)
		if got := kept(c.r, c.sets, at(t, "2027-02-01 00:00")); got != c.want {
			t.Errorf("%s: kept %s\nnot        %s", c.name, got, c.want)
		}
	}
}

func TestClocks(t *testing.T) {
	berlin := berlin(t)
	// In autumn the clock shows 02:30 twice.
	first := time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC)
	sets := []Set{{ID: "first", Created: first}, {ID: "second", Created: first.Add(time.Hour)}, {ID: "third", Created: first.Add(2 * time.Hour)}}
	if got := kept(config.Retention{Hourly: 3, Location: berlin}, sets, first.AddDate(1, 0, 0)); got != "first, second, third" {
		t.Errorf("of two equal hours: %s", got)
	}
	// A day begins where the administrator lives.
	late := []Set{{ID: "22:30", Created: time.Date(2026, 7, 1, 20, 30, 0, 0, time.UTC)}, {ID: "00:30", Created: time.Date(2026, 7, 1, 22, 30, 0, 0, time.UTC)}}
	if got := kept(config.Retention{Daily: 2, Location: berlin}, late, first); got != "22:30, 00:30" {
		t.Errorf("two days in Berlin: %s", got)
	}
	if got := kept(config.Retention{Daily: 1, Location: time.UTC}, late, first); got != "00:30" {
		t.Errorf("one day in UTC: %s", got)
	}
	// The clock was ahead for a while: what was taken then is kept, and takes no place.
	ahead := history(t, "2026-11-01 10:00", "2026-11-02 10:00", "2030-01-01 00:00")
	if got := kept(config.Retention{Last: 1, Within: config.Span{Days: 1, Hours: 1}}, ahead, at(t, "2026-11-03 10:00")); got != "2026-11-01 10:00, 2026-11-02 10:00, 2030-01-01 00:00" {
		t.Errorf("after a clock that was ahead: %s", got)
	}
	// It is ahead now: nothing is dropped for its age.
	if got := kept(config.Retention{Within: config.Span{Days: 7}}, ahead[:2], at(t, "2031-01-01 00:00")); got != "2026-11-01 10:00, 2026-11-02 10:00" {
		t.Errorf("by a clock that is ahead: %s", got)
	}
}

func TestProtected(t *testing.T) {
	sets := history(t, "2026-11-01 10:00", "2026-11-02 10:00", "2026-11-03 10:00", "2026-11-04 10:00", "2026-11-05 10:00")
	sets[0].Protected = "pinned"
	sets[1].Labels = map[string]string{"release": "7"}
	sets[4].Damaged = true
	now := at(t, "2026-12-01 00:00")
	r := config.Retention{Last: 1, Labels: []string{"release=7", "other"}}
	if got := kept(r, sets, now); got != "2026-11-01 10:00, 2026-11-02 10:00, 2026-11-04 10:00, 2026-11-05 10:00" {
		t.Errorf("kept %s", got)
	}
	for _, v := range Apply(r, sets, now) {
		want := map[string]string{
			"2026-11-01 10:00": "pinned", "2026-11-02 10:00": "label release=7", "2026-11-03 10:00": "no rule keeps it",
			"2026-11-04 10:00": "last", "2026-11-05 10:00": "damaged, but there is no newer one",
		}[v.ID]
		if got := strings.Join(v.Reasons, "; "); got != want {
			t.Errorf("%s: %q, not %q", v.ID, got, want)
		}
	}
	sets[3].Damaged, sets[4].Damaged = true, false
	if got := kept(r, sets, now); got != "2026-11-01 10:00, 2026-11-02 10:00, 2026-11-05 10:00" {
		t.Errorf("kept %s", got)
	}
}

func TestExpendable(t *testing.T) {
	sets := history(t, "2026-11-01 10:00", "2026-11-02 10:00", "2026-11-03 10:00", "2026-11-04 10:00", "2026-11-05 10:00")
	sets[1].Protected = "mounted"
	now := at(t, "2026-12-01 00:00")
	for _, c := range []struct {
		r    config.Retention
		want string
	}{
		{config.Retention{Last: 2, Monthly: 1, Labels: nil}, "2026-11-01 10:00, 2026-11-03 10:00, 2026-11-04 10:00, 2026-11-05 10:00"},
		{config.Retention{Last: 2, Minimum: 4}, "2026-11-01 10:00"},
		{config.Retention{Minimum: 3}, "2026-11-01 10:00, 2026-11-03 10:00"},
	} {
		if got := strings.Join(Expendable(c.r, sets, now), ", "); got != c.want {
			t.Errorf("%+v: %s, not %s", c.r, got, c.want)
		}
	}
	// Of five sets, two are from the future: they are no part of what has to be left.
	now = at(t, "2026-11-03 12:00")
	for _, c := range []struct {
		r    config.Retention
		want string
	}{
		{config.Retention{Last: 1, Minimum: 2}, "2026-11-01 10:00"},
		{config.Retention{Last: 1, Minimum: 3}, ""},
	} {
		if got := strings.Join(Expendable(c.r, sets, now), ", "); got != c.want {
			t.Errorf("%+v, with sets from the future: %s, not %s", c.r, got, c.want)
		}
	}
	if got := Expendable(config.Retention{Last: 1}, sets[:1], now); len(got) != 0 {
		t.Errorf("the only set is expendable: %q", got)
	}
}
