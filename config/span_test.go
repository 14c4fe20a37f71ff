package config

import (
	"testing"
	"time"
)

func TestSpan(t *testing.T) {
	for text, want := range map[string]Span{"1y": {Years: 1}, "6m": {Months: 6}, "2d12h": {Days: 2, Hours: 12}, "1y2m3d4h": {1, 2, 3, 4}} {
		got, err := ParseSpan(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "5", "h", "3h2d", "1.5d", "-1d", "7 d", "1w", "99999999d"} {
		if s, err := ParseSpan(text); err == nil {
			t.Errorf("%q was read as %v", text, s)
		}
	}
	if got := (Span{Months: 1}).Before(time.Date(2026, 3, 31, 10, 0, 0, 0, time.UTC)); !got.Equal(time.Date(2026, 3, 3, 10, 0, 0, 0, time.UTC)) {
		t.Errorf("a month before 31 March is %v", got) // as time.AddDate and restic have it
	}
}
