// Package metrics tells Prometheus how sets go and how full pools are. What happens is counted when it happens (Ended); what is, is
// read at each scrape from what others have seen already. So a scrape runs no LVM command, asks no device, and waits for
// nothing that a set holds: it works while filesystems are frozen and while LVM hangs.
//
// Labels are what the configuration names: policies, writers, volumes, pools. Names of snapshots and sets are not labels, for they
// never end.
package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/fermata-project/fermata/daemon"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/pools"
)

// Facts are what is read at each scrape. None of them may wait for anything.
type Facts struct {
	Version string
	// Policies are those that are configured, so that they are there before their first set.
	Policies map[string]Policy
	Sets     func() []api.Manifest
	Pools    func() pools.State
	Groups   func() []pools.Group
	Frozen   func() daemon.Frozen
	Problems func() int
}

// Policy is what is known of a policy beside its sets.
type Policy struct {
	Interval time.Duration // the longest time between two runs by its schedule; 0 without one
	Changed  time.Time     // when its file was changed last; zero if it is disabled
}

// Metrics are a registry of their own.
type Metrics struct {
	*prometheus.Registry
	sets           *prometheus.CounterVec
	duration       *prometheus.HistogramVec
	window         *prometheus.HistogramVec
	phase          *prometheus.HistogramVec
	writer         *prometheus.HistogramVec
	writerFailures *prometheus.CounterVec
	failing        *prometheus.GaugeVec
	released       prometheus.Counter
	releasedAt     prometheus.Gauge
	now            func() time.Time
	acts           *actCounts
}

// Freeze windows go from a tenth of a millisecond, for an idle thin volume, to the ten seconds that are the limit's
// default; whole sets and their phases from milliseconds to the minutes that a writer may take to prepare.
var (
	windowBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	phaseBuckets  = []float64{.001, .01, .1, .5, 1, 5, 10, 60, 300, 600}
)

// histogram is native as well as classic: a scraper takes what it understands.
func histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
	}, labels)
}

// New makes the metrics of a daemon.
func New(f Facts) *Metrics {
	m := &Metrics{
		Registry: prometheus.NewRegistry(),
		sets: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fermata_sets_total",
			Help: "Requests for snapshot sets by how they ended: ok, degraded (made, with less consistency than could have been), or the class of the error."}, []string{"policy", "outcome"}),
		duration: histogram("fermata_set_duration_seconds", "How long it took to take a set, from the request to the finished set.", phaseBuckets, "policy"),
		window:   histogram("fermata_freeze_window_seconds", "From the first filesystem blocked to the last one released.", windowBuckets, "policy"),
		phase:    histogram("fermata_phase_duration_seconds", "How long each phase of a set took.", phaseBuckets, "phase"),
		writer:   histogram("fermata_writer_phase_duration_seconds", "How long each writer took for each phase; hold: how long it held.", phaseBuckets, "writer", "phase"),
		writerFailures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fermata_writer_failures_total",
			Help: "Phases that a writer failed, refused, or did not end in time."}, []string{"writer", "phase"}),
		released: prometheus.NewCounter(prometheus.CounterOpts{Name: "fermata_guard_releases_total",
			Help: "Filesystems and devices that the guard had to release because the daemon did not."}),
		failing: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fermata_writer_failing",
			Help: "1 if the writer failed a phase of the last set that it took part in, 0 if not."}, []string{"writer"}),
		releasedAt: prometheus.NewGauge(prometheus.GaugeOpts{Name: "fermata_guard_released_timestamp_seconds",
			Help: "When the daemon last saw that the guard had to release something; 0: not since it was started."}),
		now: time.Now,
		acts: &actCounts{pools: f.Pools, groups: f.Groups, known: map[string]bool{}, CounterVec: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fermata_pool_acts_total",
			Help: "What was done about pools that fill up, and how it went; warn and clear: to which level the pool has gone."}, []string{"pool", "act", "outcome"})},
	}
	m.MustRegister(m.sets, m.duration, m.window, m.phase, m.writer, m.writerFailures, m.failing, m.released, m.releasedAt,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), present{f}, m.acts)
	for policy := range f.Policies {
		m.sets.WithLabelValues(policy, "ok")
		m.window.WithLabelValues(policy)
	}
	return m
}

// Ended counts a set.
func (m *Metrics) Ended(e daemon.Ended) {
	policy := e.Manifest.Policy
	m.sets.WithLabelValues(policy, e.Outcome()).Inc()
	m.Released(e.Released)
	for _, p := range e.Manifest.Phases {
		m.phase.WithLabelValues(p.Name).Observe(p.Duration.Seconds())
	}
	for _, w := range e.Manifest.Writers {
		failed := false
		for _, p := range w.Phases {
			m.writer.WithLabelValues(w.Name, p.Name).Observe(p.Duration.Seconds())
			failures := m.writerFailures.WithLabelValues(w.Name, p.Name) // born at 0, so that the first one is an increase
			if p.Error != "" {
				failures.Inc()
				failed = true
			}
		}
		m.failing.WithLabelValues(w.Name).Set(truth(failed))
	}
	if e.Manifest.Window > 0 {
		m.window.WithLabelValues(policy).Observe(e.Manifest.Window.Seconds())
	}
	if e.Err == nil {
		m.duration.WithLabelValues(policy).Observe(e.Manifest.Duration.Seconds())
	}
}

// Released counts what the guard had to release, in a set of this daemon's or of one that died.
func (m *Metrics) Released(n int) {
	if n > 0 {
		m.released.Add(float64(n))
		m.releasedAt.Set(seconds(m.now()))
	}
}
