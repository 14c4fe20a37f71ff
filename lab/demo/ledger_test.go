package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fermata-project/fermata/daemon/api"
)

func TestJudge(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(1000, 0).Add(time.Duration(ms) * time.Millisecond) }
	capture := interval{at(25), at(27)}
	// 1 and 2 were promised, 3 was in flight, 4 and 5 came later.
	entries := []entry{{at(0), at(9)}, {at(10), at(19)}, {at(20), at(29)}, {at(30), at(39)}, {at(40), at(49)}}
	for _, c := range []struct {
		name string
		rows []int
		want judgement
	}{
		{"without the one in flight", []int{1, 2}, judgement{promised: 2, inFlight: []int{3}, later: 2}},
		{"with the one in flight", []int{1, 2, 3}, judgement{promised: 2, inFlight: []int{3}, later: 2}},
		{"one lost", []int{1}, judgement{promised: 2, missing: []int{2}, inFlight: []int{3}, later: 2}},
		{"one too many", []int{1, 2, 3, 4}, judgement{promised: 2, inFlight: []int{3}, later: 2, early: []int{4}}},
		{"one out of nowhere", []int{1, 2, 6}, judgement{promised: 2, inFlight: []int{3}, later: 2, unknown: []int{6}}},
		{"empty", nil, judgement{promised: 2, missing: []int{1, 2}, inFlight: []int{3}, later: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows := map[int]bool{}
			for _, n := range c.rows {
				rows[n] = true
			}
			got := judge(entries, rows, capture)
			if d := cmp.Diff(c.want, got, cmp.AllowUnexported(judgement{})); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestDuring(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(1000, 0).Add(time.Duration(ms) * time.Millisecond) }
	entries := []entry{{at(0), at(5)}, {at(6), at(36)}, {at(37), at(40)}}
	for _, c := range []struct {
		begin, end int
		want       pace
	}{
		{10, 20, pace{1, 30 * time.Millisecond}},
		{0, 5, pace{1, 5 * time.Millisecond}},
		{36, 40, pace{2, 30 * time.Millisecond}},
		{41, 50, pace{}},
	} {
		if got := during(entries, interval{at(c.begin), at(c.end)}); got != c.want {
			t.Errorf("during %d to %d: %v, want %v", c.begin, c.end, got, c.want)
		}
	}
}

func TestTimesOf(t *testing.T) {
	created := time.Unix(1000, 0)
	m := api.Manifest{Created: created, Window: 9 * time.Millisecond, Phases: []api.Phase{
		{Name: "freeze", Start: 100 * time.Millisecond, Duration: 4 * time.Millisecond},
		{Name: "pre-commit", Start: 104 * time.Millisecond, Duration: time.Millisecond},
		{Name: "commit", Start: 105 * time.Millisecond, Duration: 2 * time.Millisecond},
	}}
	window, capture, err := timesOf(m)
	if err != nil {
		t.Fatal(err)
	}
	after := func(ms int) time.Time { return created.Add(time.Duration(ms) * time.Millisecond) }
	if want := (interval{after(-5), after(4)}); window != want {
		t.Errorf("window %v, want %v", window, want)
	}
	if want := (interval{after(0), after(2)}); capture != want {
		t.Errorf("capture %v, want %v", capture, want)
	}
	m.Phases = m.Phases[:2]
	if _, _, err := timesOf(m); err == nil {
		t.Error("no error without a commit")
	}
}
