//go:build lab

package system

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
)

// writerSets is how many sets the tests of busy servers take: FERMATA_WRITER_SETS, 2 unless given.
func writerSets(t testing.TB) int {
	t.Helper()
	text := os.Getenv("FERMATA_WRITER_SETS")
	if text == "" {
		return 2
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// holds are how long the phases of writers took, in several sets: by writer, then by phase.
type holds map[string]map[string][]time.Duration

func (h holds) add(m api.Manifest) {
	for _, w := range m.Writers {
		if h[w.Name] == nil {
			h[w.Name] = map[string][]time.Duration{}
		}
		for _, p := range w.Phases {
			h[w.Name][p.Name] = append(h[w.Name][p.Name], p.Duration)
		}
	}
}

// report prints the rows of the table in docs/writers.md: median and longest.
func (h holds) report(t testing.TB, load string) {
	t.Helper()
	for _, writer := range slices.Sorted(maps.Keys(h)) {
		row := fmt.Sprintf("| %s | %s | %d |", writer, load, len(h[writer]["hold"]))
		for _, phase := range []string{"freeze", "hold", "thaw"} {
			d := h[writer][phase]
			if len(d) == 0 {
				t.Fatalf("writer %s told nothing of %s", writer, phase)
			}
			slices.Sort(d)
			row += fmt.Sprintf(" %.1f, %.1f |", ms(d[len(d)/2]), ms(d[len(d)-1]))
		}
		t.Log(row)
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// idleHolds takes sets of a policy while nobody works, and reports them.
func idleHolds(t testing.TB, policy string) {
	t.Helper()
	h := holds{}
	for range min(10, writerSets(t)) {
		m := create(t, "--policy", policy)
		h.add(m)
		must(t, "snapshot", "delete", m.ID)
	}
	h.report(t, "idle")
}
