package metrics

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var metricName = regexp.MustCompile(`\bfermata_[a-z_]+`)

// What docs, rules and the exporter tell of must exist, and what exists must be told of.
func TestDocs(t *testing.T) {
	exists := []string{"fermata_up"}
	for line := range strings.Lines(text(t, example())) {
		if name, found := strings.CutPrefix(line, "# TYPE "); found {
			exists = append(exists, strings.Fields(name)[0])
		}
	}
	page := read(t, "metrics.md")
	for _, name := range exists {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("docs/metrics.md does not tell of %s", name)
		}
	}
	for _, file := range []string{"metrics.md", "prometheus/fermata.rules.yml", "prometheus/fermata.test.yml", "prometheus/fermata.weeks.test.yml"} { // the dashboard: dashboard_test.go
		for _, name := range metricName.FindAllString(read(t, file), -1) {
			if !slices.Contains(exists, name) {
				t.Errorf("docs/%s: there is no %s", file, name)
			}
		}
	}
}

func TestRunbooks(t *testing.T) {
	rules, books, tests := read(t, "prometheus/fermata.rules.yml"), read(t, "runbooks.md"), read(t, "prometheus/fermata.test.yml")
	alerts := regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(rules, -1)
	if len(alerts) == 0 {
		t.Fatal("no alerts")
	}
	for _, match := range alerts {
		if !strings.Contains(books, "\n## "+match[1]+"\n") {
			t.Errorf("no runbook for %s", match[1])
		}
		if !strings.Contains(rules, "/docs/runbooks.md#"+strings.ToLower(match[1])+"\n") {
			t.Errorf("%s does not link to its runbook", match[1])
		}
		if !strings.Contains(tests, "alertname: "+match[1]) {
			t.Errorf("%s has no test", match[1])
		}
	}
	if n := strings.Count(books, "\n## "); n != len(alerts) {
		t.Errorf("%d runbooks for %d alerts", n, len(alerts))
	}
}
