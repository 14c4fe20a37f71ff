package api

import (
	"context"
	"time"
)

// MaxHold is the longest hold that can be asked for without a snapshot: writers stand still for as long.
const MaxHold = time.Minute

// QuiesceRequest asks for a hold without a snapshot, for storage that is snapshotted from outside: by policy, or by volumes
// and writers as in a Request.
type QuiesceRequest struct {
	Policy  string   `json:"policy,omitempty"`
	Volumes []string `json:"volumes,omitempty"`
	Writers []string `json:"writers,omitempty"`
	// WritersOnly leaves the filesystems to somebody else, who freezes them after the writers hold. Without policy and
	// volumes the writers are told all filesystems of the host that can be frozen.
	WritersOnly bool `json:"writers_only,omitempty"`
	// For bounds the hold, from the arming of the guard to the last filesystem released: more than 0, at most MaxHold.
	For time.Duration `json:"for_ns"`
	// Consistency and FailIfBusy are as in a Request.
	Consistency Consistency `json:"consistency,omitempty"`
	FailIfBusy  bool        `json:"fail_if_busy,omitempty"`
}

// Hold is the requester's side of a hold without a snapshot.
type Hold struct {
	// Held is called once, when everything is held. It is called inside the freeze window, and must neither block nor
	// touch a file.
	Held func()
	// Release ends the hold. The value says whether what the requester held it for has been done: the writers are told.
	Release <-chan bool
}

// Quiescer is a service that can hold without a snapshot.
type Quiescer interface {
	// Quiesce holds until h.Release, and for r.For at most. Its answer is a manifest in state Released: the hold lasted from
	// h.Held to h.Release. A hold that did not is an error, of class Broken, Timeout, or Cancelled if ctx ended it.
	Quiesce(ctx context.Context, r QuiesceRequest, h Hold, progress func(phase string)) (*Manifest, error)
}
