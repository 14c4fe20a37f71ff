package timers

import (
	"testing"
	"time"
)

func TestThroughChanges(t *testing.T) {
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct{ zone, at, want string }{
		{"Europe/Berlin", "*:0/15", "*:0/15 UTC"}, {"America/New_York", "hourly", "hourly UTC"}, {"UTC", "*:*:0/5", "*:*:0/5 UTC"},
		{"Europe/Berlin", "daily", "daily"}, {"Europe/Berlin", "*:0/15 Europe/Berlin", "*:0/15 Europe/Berlin"},
		{"Asia/Kolkata", "hourly", "hourly"}, {"Australia/Lord_Howe", "*:0/15", "*:0/15"},
	} {
		in, err := time.LoadLocation(test.zone)
		if err != nil {
			t.Fatal(err)
		}
		if got := throughChanges(test.at, in, now); got != test.want {
			t.Errorf("%s in %s: %s", test.at, test.zone, got)
		}
	}
}
