package metrics

import (
	"cmp"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/forecast"
	"github.com/fermata-project/fermata/daemon/pools"
)

// present collects what is the case at the scrape. What is gone is not in it: no series outlives its pool.
type present struct{ Facts }

func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("fermata_"+name, help, labels, nil)
}

var (
	info     = gauge("build_info", "The daemon; always 1.", "version")
	problems = gauge("problems", "What fermata status reports as a problem.")
	frozen   = gauge("filesystems_frozen", "Filesystems that a set holds frozen at this moment.")
	since    = gauge("frozen_since_timestamp_seconds", "When the first of them was frozen; 0 if none is.")

	setCount   = gauge("snapshot_sets", "Finished sets that exist.", "policy")
	damaged    = gauge("snapshot_sets_damaged", "Finished sets that have lost a snapshot: it overflowed, or somebody removed it.", "policy")
	oldest     = gauge("snapshot_sets_oldest_timestamp_seconds", "When the oldest set was taken that exists.", "policy")
	lastTaken  = gauge("policy_last_success_timestamp_seconds", "When the newest set was taken that exists and is not damaged; 0 if there is none.", "policy")
	interval   = gauge("policy_interval_seconds", "The longest time between two runs by the policy's schedule; 0 without one.", "policy")
	changed    = gauge("policy_changed_timestamp_seconds", "When the policy's file was changed last on this host.", "policy")
	seen       = gauge("pools_seen_timestamp_seconds", "When pools and copy-on-write areas were looked at last.")
	unseen     = gauge("pools_unseen", "1 if something kept the daemon from seeing all of them; see fermata status.")
	poolSize   = gauge("pool_size_bytes", "Size of a thin pool's data or metadata.", "pool", "part")
	poolUsed   = gauge("pool_used_bytes", "Used of a thin pool's data or metadata.", "pool", "part")
	poolFull   = gauge("pool_full_seconds", "When it is full if it goes on like this; +Inf if it does not grow, NaN if too little was seen to tell.", "pool", "part")
	poolLevel  = gauge("pool_level", "1 for the level at which the pool is, 0 for the others.", "pool", "level")
	groupSize  = gauge("volume_group_size_bytes", "Size of a volume group that a pool or a policy's volume is in.", "group")
	groupFree  = gauge("volume_group_free_bytes", "What of it volumes can be given.", "group")
	groupLevel = gauge("volume_group_level", "1 for the level at which the group is, 0 for the others; always ok if no space is taken from it.", "group", "level")
	groupSeen  = gauge("volume_group_seen_timestamp_seconds", "When LVM's metadata of the group were read last.", "group")
	cowCount   = gauge("cow_areas", "Copy-on-write areas of snapshots, by the volume that they are of; other: not Fermata's.", "volume")
	cowFill    = gauge("cow_fill_ratio", "How full the fullest of a volume's copy-on-write areas is, 0 to 1.", "volume")
	cowFull    = gauge("cow_full_seconds", "When the first of them is full if it goes on like this; +Inf if none grows, NaN if too little was seen to tell.", "volume")
	cowInvalid = gauge("cow_invalid", "Areas that overflowed: their snapshots are lost.", "volume")
)

// Describe tells what there can be.
func (p present) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{info, problems, frozen, since, setCount, damaged, oldest, lastTaken, interval, changed, seen, unseen,
		poolSize, poolUsed, poolFull, poolLevel, groupSize, groupFree, groupLevel, groupSeen, cowCount, cowFill, cowFull, cowInvalid} {
		out <- d
	}
}

// Collect tells what there is.
func (p present) Collect(out chan<- prometheus.Metric) {
	put := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	put(info, 1, p.Version)
	put(problems, float64(p.Problems()))
	f := p.Frozen()
	put(frozen, float64(f.Filesystems))
	put(since, seconds(f.Since))
	sets := p.Sets()
	p.collectSets(put, sets)
	state := p.Pools()
	put(seen, seconds(state.Seen))
	put(unseen, truth(state.Err != nil))
	told := names{}
	for _, pool := range state.Pools {
		if pool.Type == "thin-pool" && told.first(pool.Name) {
			collectPool(put, pool)
		}
	}
	told = names{}
	for _, g := range p.Groups() {
		if told.first(g.Name) {
			collectGroup(put, g)
		}
	}
	for volume, a := range areas(sets, state) {
		put(cowCount, float64(a.count), volume)
		put(cowFill, a.fill, volume)
		put(cowFull, a.full, volume)
		put(cowInvalid, float64(a.invalid), volume)
	}
}

// names that were told of. LVM allows two groups of one name (disks of another host, say), Prometheus no series twice: it would cost all
// the others.
type names map[string]bool

func (n names) first(name string) bool {
	if n[name] {
		return false
	}
	n[name] = true
	return true
}

type putter = func(d *prometheus.Desc, v float64, labels ...string)

func (p present) collectSets(put putter, sets []api.Manifest) {
	type sum struct {
		count, damaged int
		oldest, newest time.Time
	}
	sums := map[string]*sum{}
	for policy, x := range p.Policies {
		sums[policy] = &sum{}
		put(interval, x.Interval.Seconds(), policy)
		if !x.Changed.IsZero() {
			put(changed, seconds(x.Changed), policy)
		}
	}
	for _, m := range sets { // oldest first
		s := sums[m.Policy]
		if s == nil {
			s = &sum{}
			sums[m.Policy] = s
		}
		s.count++
		s.oldest = cmp.Or(s.oldest, m.Created)
		if m.State == api.Damaged {
			s.damaged++
		} else {
			s.newest = m.Created
		}
	}
	for policy, s := range sums {
		put(setCount, float64(s.count), policy)
		put(damaged, float64(s.damaged), policy)
		put(lastTaken, seconds(s.newest), policy)
		if s.count > 0 {
			put(oldest, seconds(s.oldest), policy)
		}
	}
}

func collectPool(put putter, p pools.Pool) {
	put(poolSize, float64(p.Data.Size), p.Name, "data")
	put(poolUsed, float64(p.Data.Used), p.Name, "data")
	put(poolFull, until(p.DataLeft), p.Name, "data")
	put(poolSize, float64(p.Metadata.Size), p.Name, "metadata")
	put(poolUsed, float64(p.Metadata.Used), p.Name, "metadata")
	put(poolFull, until(p.MetadataLeft), p.Name, "metadata")
	for _, l := range pools.Levels() {
		put(poolLevel, truth(l == p.Level), p.Name, l.String())
	}
}

// collectGroup tells of a group that was read.
func collectGroup(put putter, g pools.Group) {
	put(groupSeen, seconds(g.Seen), g.Name)
	if g.Seen.IsZero() {
		return
	}
	put(groupSize, float64(g.Size), g.Name)
	put(groupFree, float64(g.Free), g.Name)
	for _, l := range []pools.Level{pools.OK, pools.Warning, pools.Critical} {
		put(groupLevel, truth(l == g.Level), g.Name, l.String())
	}
}

// area sums up the copy-on-write areas of a volume.
type area struct {
	count, invalid int
	fill, full     float64
}

func areas(sets []api.Manifest, state pools.State) map[string]*area {
	volumes := map[string]string{}
	for _, m := range sets {
		for _, v := range m.Volumes {
			volumes[v.Name] = v.Volume
		}
	}
	out := map[string]*area{}
	for _, p := range state.Pools {
		if p.Type != "snapshot" {
			continue
		}
		volume := cmp.Or(volumes[p.Name], "other")
		a := out[volume]
		if a == nil {
			a = &area{full: math.NaN()}
			out[volume] = a
		}
		a.count++
		if p.Level == pools.Failed {
			a.invalid++
			continue
		}
		if p.Data.Size > 0 {
			a.fill = max(a.fill, float64(p.Data.Used)/float64(p.Data.Size))
		}
		if in := until(p.DataLeft); math.IsNaN(a.full) || in < a.full {
			a.full = in
		}
	}
	return out
}

// truth is 1 for true, 0 for false.
func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func until(l pools.Left) float64 {
	switch {
	case !l.Known:
		return math.NaN()
	case l.Time == forecast.Never:
		return math.Inf(1)
	}
	return l.Time.Seconds()
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
