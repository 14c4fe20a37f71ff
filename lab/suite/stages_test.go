package main

import (
	"testing"
	"time"
)

func TestChoose(t *testing.T) {
	ran := map[string]int{}
	for day := range turns {
		for _, s := range choose("", false, time.Unix(int64(day)*24*60*60+12345, 0)) {
			ran[s.name]++
		}
	}
	for _, s := range choose("", true, time.Now()) {
		if want := map[bool]int{true: turns, false: 1}[s.turn == 0]; ran[s.name] != want {
			t.Errorf("%s runs on %d days of %d, not %d", s.name, ran[s.name], turns, want)
		}
	}
	if len(ran) != len(stages) {
		t.Errorf("%d of %d stages ever run", len(ran), len(stages))
	}
	for only, want := range map[string]int{"system 6.1": 1, "system": 3, "no such": 0} {
		if got := choose(only, false, time.Now()); len(got) != want {
			t.Errorf("%q chooses %d stages, not %d", only, len(got), want)
		}
	}
}
