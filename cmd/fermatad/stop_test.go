package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Whoever waits for work that is undone learns why.
func TestUntilStopped(t *testing.T) {
	ctx, stop := untilStopped()
	defer stop()
	if err := unix.Kill(unix.Getpid(), unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the signal went unnoticed")
	}
	if err := context.Cause(ctx); !errors.Is(err, errStopping) {
		t.Errorf("it stops because %v", err)
	}
}
