package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/fermata-project/fermata/daemon/pools/acts"
	"github.com/fermata-project/fermata/hooks"
)

// acted reports what happens to a pool, or was done about it. The watch has logged levels already.
func (d *Daemon) acted(ctx context.Context, r acts.Report) {
	if r.Act != acts.Warn && r.Act != acts.Clear {
		level := slog.LevelInfo
		if r.Outcome == acts.Failed || r.Act == acts.Refuse {
			level = slog.LevelWarn
		}
		d.o.Log.Log(ctx, level, "pool act", "pool", r.Pool, "act", string(r.Act), "outcome", r.Outcome, "level", r.Level.String(), "detail", r.Detail)
	}
	if d.o.Acted != nil {
		d.o.Acted(ctx, r)
	}
}

// runHook runs the configured program for a report.
func (d *Daemon) runHook(ctx context.Context, r acts.Report) {
	c := d.o.Config.Daemon.Pools.Acts
	if len(c.Hook) == 0 || !d.thawed(ctx, c.HookTimeout) {
		return
	}
	limited, cancel := context.WithTimeoutCause(ctx, c.HookTimeout, lateAfter(c.HookTimeout))
	defer cancel()
	if err := hooks.Run(limited, c.Hook, hookEnvironment(r)); err != nil && ctx.Err() == nil {
		d.o.Log.Warn("the hook for pools has failed", "pool", r.Pool, "act", string(r.Act), "error", err)
	}
}

// hookEnvironment is what a hook is told.
func hookEnvironment(r acts.Report) map[string]string {
	return map[string]string{
		"FERMATA_POOL": r.Pool, "FERMATA_ACT": string(r.Act), "FERMATA_OUTCOME": r.Outcome,
		"FERMATA_LEVEL": r.Level.String(), "FERMATA_DETAIL": r.Detail,
	}
}

// thawed waits until nothing is frozen, for at most limit: a program is better not started in a freeze window, but somebody has to be
// told of a pool that fills up while one does not end. False: ctx has ended.
func (d *Daemon) thawed(ctx context.Context, limit time.Duration) bool {
	for end := time.Now().Add(limit); d.Frozen().Filesystems > 0 && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(50 * time.Millisecond):
		}
	}
	return ctx.Err() == nil
}
