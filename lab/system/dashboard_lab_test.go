//go:build lab

package system

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/lab/labtest"
)

// Every expression of the dashboard is one: promtool reads them as rules. Grafana's variables of time stand for five minutes.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("../../docs/prometheus/fermata.dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	type group struct {
		Name  string `json:"name"`
		Rules []rule `json:"rules"`
	}
	g := group{Name: "dashboard"}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			expr := regexp.MustCompile(`\$__\w+`).ReplaceAllString(target.Expr, "5m")
			g.Rules = append(g.Rules, rule{fmt.Sprintf("panel:%d", len(g.Rules)), expr})
		}
	}
	rules, err := json.Marshal(map[string][]group{"groups": {g}}) // which is YAML too
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(file, rules, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := labtest.Run(t, "promtool", "check", "rules", file); len(g.Rules) < 20 || !strings.Contains(out, fmt.Sprintf("SUCCESS: %d rules found", len(g.Rules))) {
		t.Errorf("%d expressions: %s", len(g.Rules), out)
	}
}
