package daemon

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/forecast"
	"github.com/fermata-project/fermata/daemon/pools"
	"github.com/fermata-project/fermata/daemon/pools/acts"
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
)

func groupName(pool string) string {
	vg, _, _ := strings.Cut(pool, "/")
	return vg
}

// written is how much has been written to volumes, in bytes since they appeared.
type written map[dm.Dev]uint64

// poolsAllow refuses a set whose volumes have their space from a pool that must not be burdened further.
func (t *transaction) poolsAllow() error {
	d := t.daemon
	c := d.o.Config.Daemon.Pools.Acts
	if d.o.Watch == nil || c.Refuse == (config.PoolRefuse{At: config.Never}) {
		return nil
	}
	t.written = d.writtenTo(t.plan)
	needs := map[dm.Dev]uint64{}
	names := map[dm.Dev][]string{}
	for _, m := range t.plan.members {
		x, ok := m.provider.(provider.Placer)
		if !ok || !m.captured() {
			continue
		}
		pool, err := x.PoolOf(m.vol)
		if err != nil {
			return err
		}
		needs[pool] += d.sinceLast(m.vol, t.written)
		names[pool] = append(names[pool], m.vol.Name)
	}
	for _, p := range d.o.Watch.State().Pools {
		vols, meant := names[p.Dev]
		if !meant || len(c.Only) > 0 && !slices.Contains(c.Only, p.Name) {
			continue
		}
		if why := refusal(p, c.Refuse, needs[p.Dev]); why != "" {
			err := api.Errorf(api.Refused, "cannot take a set of %s: pool %s %s (extend it: fermata pool extend %s)", strings.Join(vols, ", "), p.Name, why, p.Name)
			if !t.dry {
				d.tell(acts.Report{Pool: p.Name, Act: acts.Refuse, Outcome: acts.Done, Detail: err.Error()})
			}
			return err
		}
	}
	return nil
}

// refusal says why a pool takes no further set that will need so many bytes; empty: it does.
func refusal(p pools.Pool, c config.PoolRefuse, need uint64) string {
	if from, ok := pools.ParseLevel(string(c.At)); ok && p.Level >= from {
		return fmt.Sprintf("is at level %s: %s (pools.refuse.at is %s)", p.Level, p.Reason, c.At)
	}
	for _, x := range []struct {
		what string
		left pools.Left
	}{{"data", p.DataLeft}, {"metadata", p.MetadataLeft}} {
		if x.left.Known && x.left.Time != forecast.Never && x.left.Time < c.Within {
			return fmt.Sprintf("has no %s left in %s if it goes on like this (pools.refuse.full_within is %s)", x.what, x.left.Time.Round(time.Second), c.Within)
		}
	}
	free := p.Data.Size - min(p.Data.Used, p.Data.Size)
	if wanted := c.Growth * float64(need); wanted > float64(free) {
		return fmt.Sprintf("has %d MiB free, and these volumes have written %d MiB since their last set (pools.refuse.growth is %g)", free>>20, need>>20, c.Growth)
	}
	return ""
}

// writtenTo reads how much has been written to a plan's volumes; what cannot be read is left out.
func (d *Daemon) writtenTo(p plan) written {
	out := written{}
	for _, m := range p.members {
		c, err := d.o.Host.OpenCounter(uint64(m.vol.Dev))
		if err != nil {
			continue
		}
		if w, err := c.Read(); err == nil {
			out[m.vol.Dev] = w.Written * 512
		}
		_ = c.Close()
	}
	return out
}

// sinceLast is what a volume has written since its last set, at most what it can hold: what that set's snapshot keeps, at most, and
// the next one's will if nothing changes. 0 if there was none since the daemon started.
func (d *Daemon) sinceLast(v provider.Volume, now written) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	last, known := d.written[volumeKey(v)]
	if !known || now[v.Dev] < last { // or it has been activated anew
		return 0
	}
	return min(now[v.Dev]-last, v.Size)
}

func volumeKey(v provider.Volume) string { return cmp.Or(v.UUID, v.Name) }

// rememberWritten notes for the next set what had been written before this one.
func (d *Daemon) rememberWritten(p plan, w written) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range p.members {
		if n, ok := w[m.vol.Dev]; ok {
			d.written[volumeKey(m.vol)] = n
		}
	}
}
