package main

import (
	"cmp"
	"fmt"
	"slices"
)

// turn is a contender's share of the run.
type turn struct {
	contender contender
	kind      string // of the volumes: their provider
	volumes   int
	times     int
}

func (t turn) failed(err error) error {
	return fmt.Errorf("%s, %d volumes of %s: %w", t.contender.name(), t.volumes, t.kind, err)
}

// interleave spreads every turn evenly over the run, so that no contender has a quieter part of it.
func interleave(turns []turn) []turn {
	type place struct {
		turn
		at float64
	}
	var places []place
	for _, t := range turns {
		for i := range t.times {
			places = append(places, place{t, (float64(i) + 0.5) / float64(t.times)})
		}
	}
	slices.SortStableFunc(places, func(a, b place) int { return cmp.Compare(a.at, b.at) })
	out := make([]turn, len(places))
	for i, p := range places {
		out[i] = p.turn
	}
	return out
}
