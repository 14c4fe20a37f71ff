package daemon

import (
	"fmt"
	"time"
)

// Alive is nil unless something that must never block has blocked: the lock under which every reading verb looks. A set
// that takes long is no reason to kill the daemon: its phases have limits of their own, and the guard has the window's.
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
		return nil
	case <-time.After(limit):
		return fmt.Errorf("internal error: its state has been locked for %v", limit)
	}
}
