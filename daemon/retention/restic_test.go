package retention

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/config"
)

// What restic keeps, we keep, and no more.
func TestAsRestic(t *testing.T) {
	text, err := os.ReadFile("testdata/restic")
	if err != nil {
		t.Fatal(err)
	}
	histories, verdicts := map[string][]Set{}, map[[2]string]string{}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		part := strings.SplitN(strings.TrimSuffix(line, "\n"), ": ", 3)
		if len(part) != 3 {
			t.Fatalf("%q", line)
		}
		verdicts[[2]string{part[0], part[1]}] = part[2]
		if part[0] == "keep-last unlimited" {
			for id := range strings.SplitSeq(part[2], ", ") {
				when, err := time.Parse("2006-01-02 15:04", id)
				if err != nil {
					t.Fatal(err)
				}
				histories[part[1]] = append(histories[part[1]], Set{ID: id, Created: when})
			}
		}
	}
	if len(histories) != 2 || len(verdicts) != 64 {
		t.Fatalf("%d histories, %d verdicts", len(histories), len(verdicts))
	}
	for of, want := range verdicts {
		if got := kept(resticRules(t, of[0]), histories[of[1]], time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)); got != want {
			t.Errorf("%s, history %s: kept\n%s\nrestic keeps\n%s", of[0], of[1], got, want)
		}
	}
}

// resticRules reads "keep-daily 7 keep-within 1m".
func resticRules(t *testing.T, text string) config.Retention {
	t.Helper()
	r := config.Retention{Location: time.UTC}
	counts := map[string]*int{"last": &r.Last, "hourly": &r.Hourly, "daily": &r.Daily, "weekly": &r.Weekly, "monthly": &r.Monthly, "yearly": &r.Yearly}
	spans := map[string]*config.Span{"within": &r.Within, "within-hourly": &r.WithinHourly, "within-daily": &r.WithinDaily,
		"within-weekly": &r.WithinWeekly, "within-monthly": &r.WithinMonthly, "within-yearly": &r.WithinYearly}
	for rule := range slices.Chunk(strings.Fields(text), 2) {
		name, err := strings.TrimPrefix(rule[0], "keep-"), error(nil)
		switch {
		case spans[name] != nil:
			*spans[name], err = config.ParseSpan(rule[1])
		case rule[1] == "unlimited":
			*counts[name] = config.Unlimited
		default:
			*counts[name], err = strconv.Atoi(rule[1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return r
}
