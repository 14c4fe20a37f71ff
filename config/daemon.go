package config

import (
	"log/slog"
	"time"
)

// Daemon holds the settings of fermata.yaml.
type Daemon struct {
	StateDirectory string        // manifests of finished sets; absolute; default /var/lib/fermata
	MountDirectory string        // where snapshots are mounted; absolute; default /run/fermata/mnt
	LogLevel       slog.Level    // default info
	Limits         DaemonLimits  // of every set, unless its policy has its own
	Preflush       Preflush      // how filesystems are flushed before the freeze
	Pools          Pools         // when pools count as filling up
	Metrics        Metrics       // where metrics can be read
	IdleExit       time.Duration // idle time before the daemon exits, to be started again on demand; 1s to 1w; default 0: never
}

// Limits are the longest times that the phases of a set may take; beyond them the set is aborted.
type Limits struct {
	Freeze  time.Duration // the freeze window, 1ms to 60s; default 10s
	Writers time.Duration // freezing of all writers together, 1ms to 60s; default 60s
	Prepare time.Duration // everything before the first writer is frozen, 1ms to 24h; default 10m
}

// DaemonLimits are the limits of a set, and those of the daemon as a whole.
type DaemonLimits struct {
	Limits
	Sets int // finished sets that may exist at a time, 1 to 100000; default 1000
}

// Preflush says how syncfs(2) is repeated before the freeze, so that the freeze itself has little
// left to flush: up to Rounds times for each filesystem, ending with the first round that was
// faster than Until.
type Preflush struct {
	Rounds int           // 0 to 100, 0 for none; default 4
	Until  time.Duration // 1ms to 60s; default 50ms
}

// defaultDaemon is what holds without a fermata.yaml. The limits are those of VSS: 10 s for the
// window, 60 s for the writers.
func defaultDaemon() Daemon {
	return Daemon{
		StateDirectory: "/var/lib/fermata",
		MountDirectory: "/run/fermata/mnt",
		LogLevel:       slog.LevelInfo,
		Limits: DaemonLimits{
			Limits: Limits{Freeze: 10 * time.Second, Writers: 60 * time.Second, Prepare: 10 * time.Minute},
			Sets:   1000,
		},
		Preflush: Preflush{Rounds: 4, Until: 50 * time.Millisecond},
		Pools:    defaultPools(),
	}
}

// limitFields are the limits that both fermata.yaml and a policy can set, within a T.
func limitFields[T any](limits func(*T) *Limits) []field[T] {
	short := duration(time.Millisecond, time.Minute)
	return []field[T]{
		key("freeze", func(t *T) *time.Duration { return &limits(t).Freeze }, short),
		key("writers", func(t *T) *time.Duration { return &limits(t).Writers }, short),
		key("prepare", func(t *T) *time.Duration { return &limits(t).Prepare }, duration(time.Millisecond, 24*time.Hour)),
	}
}

var daemonSchema = mapping(
	key("state_directory", func(d *Daemon) *string { return &d.StateDirectory }, pathText()),
	key("mount_directory", func(d *Daemon) *string { return &d.MountDirectory }, pathText()),
	key("log_level", func(d *Daemon) *slog.Level { return &d.LogLevel }, logLevel()),
	key("limits", func(d *Daemon) *DaemonLimits { return &d.Limits }, mapping(append(
		limitFields(func(l *DaemonLimits) *Limits { return &l.Limits }),
		key("sets", func(l *DaemonLimits) *int { return &l.Sets }, integer(1, 100_000)),
	)...)),
	key("preflush", func(d *Daemon) *Preflush { return &d.Preflush }, mapping(
		key("rounds", func(p *Preflush) *int { return &p.Rounds }, integer(0, 100)),
		key("until", func(p *Preflush) *time.Duration { return &p.Until }, duration(time.Millisecond, time.Minute)),
	)),
	key("pools", func(d *Daemon) *Pools { return &d.Pools }, poolsSchema),
	key("metrics", func(d *Daemon) *Metrics { return &d.Metrics }, metricsSchema),
	key("idle_exit", func(d *Daemon) *time.Duration { return &d.IdleExit }, durationOrZero(time.Second, 7*24*time.Hour)),
)
