package api

import (
	"context"
	"time"
)

// PoolDetails is a thin pool with what is done about it, and what lives in it.
type PoolDetails struct {
	Pool
	// Since is when it came to its level.
	Since time.Time `json:"since,omitzero"`
	// Extension says in words who extends it.
	Extension string `json:"extension,omitempty"`
	// Group is the volume group that it is in; nil: it is not known.
	Group *Group `json:"group,omitempty"`
	// Acts of late, oldest first, since the daemon has started.
	Acts []PoolAct `json:"acts,omitempty"`
	// Snapshots of Fermata's that live in it, oldest first.
	Snapshots []PoolSnapshot `json:"snapshots,omitempty"`
}

// Group is a volume group of LVM's.
type Group struct {
	Name string `json:"group"`
	// Size and Free are bytes; Free is what volumes can be given.
	Size uint64 `json:"size_bytes"`
	Free uint64 `json:"free_bytes"`
	// Used is set if Fermata takes space from it, for copy-on-write areas or to extend a pool; if not, it is ok however full it is.
	Used bool `json:"used"`
	// Level is ok, warning or critical; "" if it was never read. Reason says why it is not ok.
	Level  string `json:"level,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Seen is when it was read last, Problem why it cannot be now.
	Seen    time.Time `json:"seen,omitzero"`
	Problem string    `json:"problem,omitempty"`
}

// PoolAct is something that happened to a pool, or that was done about it: see docs/pools.md for the words.
type PoolAct struct {
	Time    time.Time `json:"time"`
	Act     string    `json:"act"`
	Outcome string    `json:"outcome"`
	Level   string    `json:"level"`
	Detail  string    `json:"detail,omitempty"`
}

// PoolSnapshot is a snapshot that lives in a pool.
type PoolSnapshot struct {
	Name    string    `json:"snapshot"` // vg/lv
	Set     string    `json:"set"`
	Policy  string    `json:"policy,omitempty"`
	Volume  string    `json:"volume"`
	Created time.Time `json:"created,omitzero"`
	// Share is what the snapshot has in the pool; nil: not measured.
	Share *PoolShare `json:"share,omitempty"`
}

// PoolShare is what a thin volume has in its pool.
type PoolShare struct {
	// Mapped is what it can read that is not zero, Own the part of it that nobody else has: what its deletion would give back.
	Mapped uint64 `json:"mapped_bytes"`
	Own    uint64 `json:"own_bytes"`
}

// ExtendOptions say how a pool is to be extended.
type ExtendOptions struct {
	// Size is how many bytes are added; 0: Percent says how many per cent of what there is. One of them is above 0.
	Size    uint64  `json:"size_bytes,omitempty"`
	Percent float64 `json:"percent,omitempty"`
	// Metadata is extended instead of the data.
	Metadata bool `json:"metadata,omitempty"`
}

// PoolKeeper sees after pools.
type PoolKeeper interface {
	Pools(ctx context.Context) ([]Pool, error)
	// ShowPool tells of one pool, by its name vg/lv.
	ShowPool(ctx context.Context, name string) (*PoolDetails, error)
	// MeasurePool is ShowPool with the share of each snapshot: the pool's metadata are read for that, which can take a while.
	MeasurePool(ctx context.Context, name string) (*PoolDetails, error)
	// ExtendPool extends a thin pool from its volume group, and returns it as it is then.
	ExtendPool(ctx context.Context, name string, o ExtendOptions) (*Pool, error)
}
