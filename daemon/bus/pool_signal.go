package bus

import (
	"sync"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/pools/acts"
)

// maxActs is how many acts wait to be announced; of more the oldest are dropped: clients find them in ShowPool.
const maxActs = 256

// poolActs are the acts that clients were not told of yet.
type poolActs struct {
	mu      sync.Mutex
	waiting []acts.Report
}

// PoolActed announces what happened to a pool, or was done about it. It never blocks.
func (s *Server) PoolActed(r acts.Report) {
	s.acts.mu.Lock()
	if len(s.acts.waiting) == maxActs {
		s.acts.waiting = s.acts.waiting[1:]
	}
	s.acts.waiting = append(s.acts.waiting, r)
	s.acts.mu.Unlock()
	s.poke()
}

// poolSignal is emitted by the manager.
var poolSignal = signal{name: "PoolActed", args: []arg{{"pool", ""}, {"act", ""}, {"outcome", ""}, {"level", ""}, {"detail", ""}},
	doc: "A pool has gone to another level (act warn or clear), or something was done about one that fills up."}

func (l *link) announceActs() {
	l.acts.mu.Lock()
	waiting := l.acts.waiting
	l.acts.waiting = nil
	l.acts.mu.Unlock()
	for _, r := range waiting {
		l.emit(managerPath, api.ManagerInterface+"."+poolSignal.name, r.Pool, string(r.Act), r.Outcome, r.Level.String(), r.Detail)
	}
}
