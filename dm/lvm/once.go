package lvm

import (
	"context"
	"sync"
)

// Once is a context in which Report reads the inventory of all groups only once: for several that ask the same of it one after
// the other, with no change of theirs in between. What it answers is shared.
func Once(ctx context.Context) context.Context {
	return context.WithValue(ctx, onceKey{}, new(reading))
}

type onceKey struct{}

type reading struct {
	mu        sync.Mutex
	inventory *Inventory
}

// once is the inventory that the context has already, or what read reads.
func once(ctx context.Context, read func() (*Inventory, error)) (*Inventory, error) {
	r, ok := ctx.Value(onceKey{}).(*reading)
	if !ok {
		return read()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inventory != nil {
		return r.inventory, nil
	}
	inventory, err := read()
	r.inventory = inventory
	return inventory, err
}
