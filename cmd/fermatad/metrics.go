package main

import (
	"context"
	"log/slog"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon"
	"github.com/fermata-project/fermata/daemon/metrics"
	"github.com/fermata-project/fermata/daemon/pools"
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/lvm/metadata"
)

// groupSource is where the watch of volume groups looks.
type groupSource struct{ *dm.Control }

func (groupSource) Open(dev dm.Dev) (metadata.Disk, error) { return metadata.Open(dev) }

// newGroupWatch makes the watch of volume groups.
func newGroupWatch(c *config.Config, control *dm.Control, events *dm.Events, d *daemon.Daemon, log *slog.Logger) *pools.GroupWatch {
	t := c.Daemon.Pools.Group
	at := pools.Thresholds{Warning: t.Warning / 100, Critical: t.Critical / 100}
	return pools.NewGroupWatch(groupSource{control}, events, at, d.GroupsOfConcern, d.Quiet, func(c pools.GroupChange) {
		level := slog.LevelInfo
		if c.Level > c.Was {
			level = slog.LevelWarn
		}
		log.Log(context.Background(), level, "volume group", "group", c.Name, "level", c.Level.String(), "was", c.Was.String(), "reason", c.Reason)
		d.GroupChanged(c)
	}, log)
}

// newWatch makes the watch of the pools.
func newWatch(c *config.Config, control *dm.Control, events *dm.Events, changed func(pools.Change), log *slog.Logger) *pools.Watch {
	parts := func(t config.Thresholds) pools.Thresholds {
		return pools.Thresholds{Warning: t.Warning / 100, Critical: t.Critical / 100}
	}
	p := c.Daemon.Pools
	limits := pools.Limits{Data: parts(p.Data), Metadata: parts(p.Metadata), COW: parts(p.COW)}
	return pools.New(dm.NewSpaces(control), events, limits, func(c pools.Change) {
		level := slog.LevelInfo
		if c.Level > c.Was {
			level = slog.LevelWarn
		}
		log.Log(context.Background(), level, "pool", "pool", c.Name, "level", c.Level.String(), "was", c.Was.String(), "reason", c.Reason)
		changed(c)
	}, log)
}

// newMetrics makes the daemon's metrics.
func newMetrics(c *config.Config, d *daemon.Daemon, watch *pools.Watch, groups func() []pools.Group) *metrics.Metrics {
	policies := map[string]metrics.Policy{}
	for name, p := range c.Policies {
		policies[name] = metrics.Policy{Interval: p.Schedule.Interval, Changed: p.Changed}
	}
	for name := range c.Disabled("policy") {
		policies[name] = metrics.Policy{}
	}
	return metrics.New(metrics.Facts{
		Version: version, Policies: policies, Pools: watch.State, Groups: groups,
		Sets: d.Known, Frozen: d.Frozen, Problems: func() int { return len(d.Problems()) },
	})
}
