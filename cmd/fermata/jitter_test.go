package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
)

// A jitter is a random part of what is allowed, all of which is used; who is told to end meanwhile does.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shortest, longest := time.Hour, time.Duration(0)
		for range 200 {
			begun := time.Now()
			if err := pause(t.Context(), time.Minute); err != nil {
				t.Fatal(err)
			}
			took := time.Since(begun)
			shortest, longest = min(shortest, took), max(longest, took)
		}
		if shortest > 10*time.Second || longest < 50*time.Second || longest >= time.Minute {
			t.Errorf("of a minute it waited from %v to %v", shortest, longest)
		}
		begun := time.Now()
		if err := pause(t.Context(), 0); err != nil || time.Since(begun) > 0 {
			t.Errorf("without a jitter: %v, %v", time.Since(begun), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := pause(ctx, time.Hour); api.Of(err) != api.Cancelled {
			t.Errorf("told to end: %v", err)
		}
	})
}
