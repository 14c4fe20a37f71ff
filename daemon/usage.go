package daemon

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm/provider"
)

// usageLimit is what a listing waits for one provider to tell how full all of its snapshots are. One that does not is not
// asked again until its last answer has come, or been given up.
const usageLimit = 2 * time.Second

// usage is how full a snapshot's copy-on-write area is; unknown says why nobody knows.
type usage struct {
	provider.Usage
	unknown error
}

// usages asks each provider once how full its snapshots' copy-on-write areas are, all providers at the same time. Snapshots
// of those that have none are left out; a key is a snapshot's provider and name.
func (d *Daemon) usages(snaps []provider.Snapshot) map[[2]string]usage {
	ctx, cancel := context.WithTimeoutCause(context.Background(), usageLimit, lateAfter(usageLimit))
	defer cancel()
	out := map[[2]string]usage{}
	var mu sync.Mutex // guards out
	var asked sync.WaitGroup
	for _, p := range d.o.Providers {
		u, ok := p.(provider.Usager)
		mine := ofProvider(p, snaps)
		if !ok || len(mine) == 0 {
			continue
		}
		asked.Go(func() {
			told := d.usagesOf(ctx, p, u, mine)
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(out, told)
		})
	}
	asked.Wait()
	return out
}

func (d *Daemon) usagesOf(ctx context.Context, p provider.Provider, u provider.Usager, snaps []provider.Snapshot) map[[2]string]usage {
	told := map[[2]string]usage{} // not the result, which is the caller's if the call does not return
	x := call{key: "usage " + p.Name(), what: "provider " + p.Name() + ", asked how full its snapshots are,", fail: "ask provider " + p.Name() + " how full its snapshots are"}
	if p.Kind() != provider.BuiltIn {
		x.advice = "the plug-in, or what it talks to, may have stopped answering"
	}
	err := d.calls.do(ctx, x, func() error {
		for _, s := range snaps {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			var y usage
			y.Usage, y.unknown = u.Usage(s)
			told[usageKey(s)] = y
		}
		return nil
	})
	if err == nil {
		return told
	}
	out := map[[2]string]usage{}
	for _, s := range snaps {
		out[usageKey(s)] = usage{unknown: err}
	}
	return out
}

func usageKey(s provider.Snapshot) [2]string { return [2]string{s.Provider, s.Name} }

// withUsage adds to volumes how full the copy-on-write areas of their snapshots are. An area that has overflowed since the
// snapshots were listed makes its snapshot invalid.
func withUsage(m *api.Manifest, snaps []provider.Snapshot, usages map[[2]string]usage) {
	for _, s := range snaps {
		u, ok := usages[usageKey(s)]
		i := slices.IndexFunc(m.Volumes, func(v api.Snapshot) bool { return v.Name == s.Name })
		if !ok || i < 0 {
			continue
		}
		v := &m.Volumes[i]
		if u.unknown != nil {
			v.COWUnknown = strings.ReplaceAll(u.unknown.Error(), "\n", "; ")
			continue
		}
		v.COW = &api.COW{Size: u.Size, Used: u.Used, Metadata: u.Metadata}
		if u.Invalid && v.Invalid == "" {
			v.Invalid = "its copy-on-write area has overflowed or lost its storage"
			m.State = api.Damaged
			m.Reasons = append(m.Reasons, fmt.Sprintf("the snapshot of %s is lost: %s", v.Volume, v.Invalid))
		}
	}
}

// ofProvider are those of one provider.
func ofProvider(p provider.Provider, snaps []provider.Snapshot) []provider.Snapshot {
	var out []provider.Snapshot
	for _, s := range snaps {
		if s.Provider == p.Name() {
			out = append(out, s)
		}
	}
	return out
}
