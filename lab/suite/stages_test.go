package main

import (
	"strings"
	"testing"
	"time"
)

func TestTurns(t *testing.T) {
	ran := map[string]int{}
	for day := range 3 {
		now := time.Unix(int64(day)*24*60*60+12345, 0)
		rest := strings.Split(restToday(now), "|")
		if len(rest) != 2 {
			t.Errorf("day %d: %q rest", day, rest)
		}
		for _, name := range turns {
			if !strings.Contains(restToday(now), name) {
				ran[name]++
			}
		}
	}
	for _, name := range turns {
		if ran[name] != 1 {
			t.Errorf("%s runs on %d days of three", name, ran[name])
		}
	}
}
