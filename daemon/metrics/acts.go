package metrics

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fermata-project/fermata/daemon/pools"
	"github.com/fermata-project/fermata/daemon/pools/acts"
)

// actCounts counts acts by pool or volume group, as long as it is there. Copy-on-write areas are counted together, as pool "cow".
type actCounts struct {
	*prometheus.CounterVec
	pools  func() pools.State
	groups func() []pools.Group

	mu    sync.Mutex
	known map[string]bool // pools that have a series
}

const allAreas = "cow"

// Acted counts an act.
func (m *Metrics) Acted(r acts.Report) {
	a := m.acts
	a.mu.Lock()
	defer a.mu.Unlock()
	pool := r.Pool
	if r.COW {
		pool = allAreas
	}
	a.known[pool] = true
	a.WithLabelValues(pool, string(r.Act), r.Outcome).Inc()
}

// Collect tells of the pools that there are, and forgets the others.
func (a *actCounts) Collect(out chan<- prometheus.Metric) {
	a.mu.Lock()
	defer a.mu.Unlock()
	here := map[string]bool{allAreas: true}
	for _, p := range a.pools().Pools {
		here[p.Name] = true
	}
	for _, g := range a.groups() {
		here[g.Name] = true
	}
	for pool := range a.known {
		if !here[pool] {
			a.DeletePartialMatch(prometheus.Labels{"pool": pool})
			delete(a.known, pool)
		}
	}
	a.CounterVec.Collect(out)
}
