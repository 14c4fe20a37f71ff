package api

import (
	"encoding/json"
	"time"
)

// Job is an entry of the list of jobs: long work that the daemon does for a requester, or has done a moment ago.
type Job struct {
	Number uint64    `json:"number"`
	Kind   string    `json:"kind"`  // create, delete, verify and others: docs/dbus.md
	State  string    `json:"state"` // running or done
	Phase  string    `json:"phase,omitempty"`
	Policy string    `json:"policy,omitempty"` // that it is about
	Set    string    `json:"set,omitempty"`
	Begun  time.Time `json:"begun"`
	// Ended, and what follows, is of a job that is done. Outcome is ok, or the class of the error.
	Ended   time.Time       `json:"ended,omitzero"`
	Outcome string          `json:"outcome,omitempty"`
	Error   string          `json:"error,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
}
