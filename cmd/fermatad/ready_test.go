package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A bus that is away does not make the start fail.
func TestAnnounce(t *testing.T) {
	const never = time.Hour
	for _, test := range []struct {
		owned, stops time.Duration // after
		ready        string
		readyAfter   time.Duration
		status       string
	}{
		{time.Second, never, "ready", time.Second, ""},
		{10 * time.Minute, never, "waiting for the bus", busWait, "ready"},
		{never, time.Minute, "waiting for the bus", busWait, ""},
		{never, time.Second, "", 0, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), test.stops)
			defer cancel()
			owned, began := make(chan struct{}), time.Now()
			if test.owned < test.stops {
				time.AfterFunc(test.owned, func() { close(owned) })
			}
			var ready, status string
			var after time.Duration
			err := announce(ctx, owned,
				func(s string) error { ready, after = ready+s, time.Since(began); return nil },
				func(s string) error { status += s; return nil })
			if err != nil || ready != test.ready || after != test.readyAfter || status != test.status {
				t.Errorf("owned after %v: ready %q after %v, then %q, %v", test.owned, ready, after, status, err)
			}
			if took, want := time.Since(began), min(test.owned, test.stops); took != want {
				t.Errorf("owned after %v: returned after %v", test.owned, took)
			}
		})
	}
}
