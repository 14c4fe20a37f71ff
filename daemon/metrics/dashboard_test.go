package metrics

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// dashboard is as much of Grafana's document as can be wrong without Grafana telling.
type dashboard struct {
	Panels []struct {
		ID          int
		Type, Title string
		Description string
		GridPos     struct{ X, Y, W, H int }
		Targets     []struct {
			RefID, Expr string
			Datasource  struct{ UID string }
		}
	}
	Templating struct {
		List []struct{ Name, Definition string }
	}
}

// series of histograms end in these, and their names do not.
var series = regexp.MustCompile(`\b((?:fermata|process|go)_[a-z_]+?)(_bucket|_sum|_count)?\b`)

// The dashboard shows what exists, and everything that exists: of the daemon's own metrics none is left out. That each
// expression is one, promtool says in the lab (lab/system, TestAlertRules).
func TestDashboard(t *testing.T) {
	var d dashboard
	if err := json.Unmarshal([]byte(read(t, "prometheus/fermata.dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	exists := map[string]bool{"fermata_up": false} // and whether it is shown
	families, err := example().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		exists[f.GetName()] = false
	}
	variables := []string{"__range", "__rate_interval"}
	var expressions []string
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
		expressions = append(expressions, v.Definition)
	}
	ids, cells := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" || p.Type != "row" && (p.Description == "" || len(p.Targets) == 0) {
			t.Errorf("panel %d, %q: not the only one of its number, or without title, description or expression", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("panel %q lies over %q, or beyond the edge", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		for _, target := range p.Targets {
			if target.Expr == "" || target.RefID == "" || target.Datasource.UID != "${datasource}" {
				t.Errorf("panel %q: %+v", p.Title, target)
			}
			expressions = append(expressions, target.Expr)
		}
	}
	for _, e := range expressions {
		for _, m := range series.FindAllStringSubmatch(e, -1) {
			if _, known := exists[m[1]]; !known {
				t.Errorf("there is no %s: %s", m[1], e)
			}
			exists[m[1]] = true
		}
		for _, m := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(e, -1) {
			if !slices.Contains(variables, m[1]) {
				t.Errorf("there is no variable %s: %s", m[1], e)
			}
		}
	}
	// What others tell better: how many areas there are, the version, and what an alert is for.
	exists["fermata_cow_areas"], exists["fermata_build_info"], exists["fermata_frozen_since_timestamp_seconds"] = true, true, true
	exists["fermata_guard_released_timestamp_seconds"], exists["fermata_writer_failing"], exists["fermata_policy_changed_timestamp_seconds"] = true, true, true
	for name, shown := range exists {
		if !shown && strings.HasPrefix(name, "fermata_") {
			t.Errorf("%s is not shown", name)
		}
	}
}
