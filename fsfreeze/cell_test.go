package fsfreeze

import (
	"strings"
	"testing"
)

// Every way in which the holder and the releaser can interleave ends with exactly one of them releasing.
func TestCell(t *testing.T) {
	steps := map[string]func(c *Cell) bool{
		"begin": (*Cell).Begin, "took": func(c *Cell) bool { return c.Took(true) }, "failed": func(c *Cell) bool { return c.Took(false) },
		"forbid": (*Cell).Forbid, "claim": (*Cell).Claim, "overtake": (*Cell).Overtake, "seize": (*Cell).Seize,
		"inherit": func(c *Cell) bool { return c.Inherit(Releasing) },
		"done":    func(c *Cell) bool { c.Done(); return true },
		"unclaim": func(c *Cell) bool { c.Unclaim(); return true },
	}
	tests := []struct {
		steps string // a step that must answer false is marked !
		want  CellState
	}{
		{"begin took claim done", Released},
		{"begin took claim !claim done !claim", Released},
		{"begin !failed !claim", Idle},
		{"begin overtake !took !claim done", Released},
		{"begin overtake !failed !claim", Released},
		{"begin took !overtake claim done", Released},
		{"begin took claim unclaim claim done", Released},
		{"begin took claim inherit unclaim !claim done", Released},
		{"begin took seize !claim !overtake unclaim !claim", Seized},
		{"begin overtake !took !seize !forbid", Seized},
		{"begin took claim !seize", Releasing},
		{"begin took claim done !inherit", Released},
		{"begin took !inherit", Held},
		{"!claim !overtake", Idle},
		{"forbid !begin", Released},
		{"begin !forbid took !forbid", Held},
		{"begin took claim done !begin", Released},
	}
	for _, tt := range tests {
		c := new(Cell)
		for s := range strings.FieldsSeq(tt.steps) {
			name, no := strings.CutPrefix(s, "!")
			if got := steps[name](c); got == no {
				t.Errorf("%s: %s answered %v", tt.steps, name, got)
			}
		}
		if c.State() != tt.want {
			t.Errorf("%s: ended %v, want %v", tt.steps, c.State(), tt.want)
		}
	}
}
