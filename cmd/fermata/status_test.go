package main

import (
	"testing"

	"github.com/fermata-project/fermata/daemon/api"
)

func TestDisturbed(t *testing.T) {
	busy := []api.Occupation{{What: "a job"}, {What: "a mounted set", OutlivesRestart: true}}
	for before, want := range map[string]int{"restart": 1, "stop": 2} {
		if got := disturbed(busy, before); len(got) != want || got[0].What != "a job" {
			t.Errorf("before a %s: %+v", before, got)
		}
	}
}
