package daemon

import (
	"fmt"
	"time"
)

// Alive is nil unless something that must never block has blocked: the lock under which every reading verb looks, or a change that
// goes on for longer than all its limits together, so that no other has its turn. One that takes long by its limits is no reason to kill
// the daemon: a policy may give its writers hours, and the guard has the window's.
func (d *Daemon) Alive() error {
	const limit = 5 * time.Second
	free := make(chan struct{})
	go func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		close(free)
	}()
	select {
	case <-free:
		return d.turn.overdue(time.Now())
	case <-time.After(limit):
		return fmt.Errorf("internal error: its state has been locked for %v", limit)
	}
}
