package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
)

const (
	// changeLimit bounds a request that changes what exists (delete, mount, unmount, resize, finish): a volume takes LVM a
	// second or less, and somebody else's command may hold LVM's lock for a while. Whoever waits for a turn waits as long.
	changeLimit = 2 * time.Minute
	// undoLimit bounds the undoing of a set, and the repair at start, before which nobody is served. What takes
	// longer is removed before the next set, or by the next start.
	undoLimit = time.Minute
)

// within bounds what a requester cannot cancel.
func (d *Daemon) within(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.WithoutCancel(ctx), limit, lateAfter(limit))
}

// bounded bounds what a requester can cancel.
func (d *Daemon) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d.changeLimit, lateAfter(d.changeLimit))
}

// late gives what a time limit has ended class Timeout.
func late(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return classed(api.Timeout, err)
	}
	return err
}

// readLimit bounds what a listing waits for in the kernel, of one provider's pools or of all volumes: it then goes on with
// the rest.
const readLimit = 5 * time.Second

func reading(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, readLimit, lateAfter(readLimit))
}

func lateAfter(limit time.Duration) error {
	return fmt.Errorf("not done within %v: %w", limit, context.DeadlineExceeded)
}
