package api

import "time"

// Overview is what the daemon knows without asking anybody: for whoever watches it, at any time. Everybody on the host may have
// it, so it leaves out what only those may know who may read on the bus: labels, components, and what writers said.
type Overview struct {
	Version string    `json:"version"`
	Host    string    `json:"host"`
	Time    time.Time `json:"time"` // of the overview
	Started time.Time `json:"started"`
	Running string    `json:"running,omitempty"` // the set being taken
	Phase   string    `json:"phase,omitempty"`   // and its phase
	Waiting int       `json:"waiting"`           // requests that wait their turn
	// Frozen is how many filesystems a set holds frozen now, FrozenSince since when.
	Frozen      int       `json:"frozen"`
	FrozenSince time.Time `json:"frozen_since,omitzero"`
	Problems    []string  `json:"problems,omitempty"`
	// Pools are the thin pools, Areas the fullest copy-on-write areas, of AreaCount.
	Pools     []Pool `json:"pools,omitempty"`
	Areas     []Pool `json:"areas,omitempty"`
	AreaCount int    `json:"area_count"`
	// Groups are the volume groups that pools and policies are in.
	Groups []Group `json:"groups,omitempty"`
	// PoolsSeen is when they were looked at last, PoolsUnseen why not all of them could be.
	PoolsSeen   time.Time `json:"pools_seen,omitzero"`
	PoolsUnseen string    `json:"pools_unseen,omitempty"`
	Policies    []Policy  `json:"policies,omitempty"`
	Writers     []Writer  `json:"writers,omitempty"`
	// Sets are the newest, newest first, of SetCount.
	Sets     []Manifest `json:"sets,omitempty"`
	SetCount int        `json:"set_count"`
	// Damaged is how many of all sets have lost a snapshot.
	Damaged int `json:"damaged"`
}

// PolicyRun is how a request by a policy ended.
type PolicyRun struct {
	Time time.Time `json:"time"` // when it was asked for
	// Outcome is ok, degraded (made, with less consistency than could have been), or the class of the error in lower case.
	Outcome  string        `json:"outcome"`
	Set      string        `json:"set,omitempty"`
	Duration time.Duration `json:"duration_ns"`
	Error    string        `json:"error,omitempty"`
}
