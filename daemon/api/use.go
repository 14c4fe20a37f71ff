package api

import "context"

// UseRequest asks for a set that exists, mounted, for as long as its requester wants: one that is taken for it, or one that there is.
type UseRequest struct {
	Request // of a set that is to be taken
	// Set is the id of one that there is.
	Set string `json:"set,omitempty"`
	// Mount says how it is mounted; without a target, below /run/fermata/exec/POLICY.
	Mount MountOptions `json:"mount"`
	// Keep a set that was taken for this. It is deleted otherwise.
	Keep bool `json:"keep,omitempty"`
}

// Use is the requester's side of it.
type Use struct {
	// Process is the requester's, by its number: a daemon that is started anew meanwhile puts the set away when that has ended. 0: it
	// is not known, and that daemon leaves the set to the requester.
	Process int
	// Mounted is called once, with the set's id, when it is mounted.
	Mounted func(id string)
	// Release ends the use. The value says whether what the set was used for has been done: it is reported to the writers.
	Release <-chan bool
}

// Lender is a service that lends mounted sets.
type Lender interface {
	// UseSet takes a set, or finds one, mounts it, and waits for u.Release, or for the end of ctx, which counts as a failure. Then it
	// reports how it went, unmounts the set, and deletes it unless it is to be kept. Its answer is the manifest, as it was while
	// the set was used.
	UseSet(ctx context.Context, r UseRequest, u Use, progress func(phase string)) (*Manifest, error)
}
