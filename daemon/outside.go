package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/pools"
	"github.com/fermata-project/fermata/dm/provider"
)

const (
	// outsideSettled is how long the same difference is seen before the sets are listed anew: somebody may be removing one volume
	// after the other.
	outsideSettled = 3 * time.Second
	// outsidePause is how long nothing is listed after that, whatever happens.
	outsidePause = 10 * time.Second
	// outsideLimit bounds that listing. Whoever takes the turn meanwhile waits for it.
	outsideLimit = 10 * time.Second
)

// FollowSets lists the sets anew when somebody else has changed what they are made of: by lvremove or vgrename, or on another host.
// LVM's metadata tell that, which the watch of volume groups reads, and device-mapper; so LVM is asked only if there is something new to
// be heard, and not for what Fermata does itself. It ends with ctx, and Wait waits for that.
func (d *Daemon) FollowSets(ctx context.Context, looked <-chan struct{}) {
	d.background.Go(func() {
		var seen, known string // differences: the last one, and the one that listing anew has not removed
		var settled <-chan time.Time
		for {
			due := false
			select {
			case <-ctx.Done():
				return
			case <-looked:
			case <-settled:
				settled, due = nil, true
			}
			changes, at := d.outside()
			switch is := strings.Join(changes, "\n"); {
			case is == "" || is == known:
				seen, settled = "", nil
				known = is
			case is != seen:
				seen, settled = is, time.After(outsideSettled)
			case due && d.listAnew(ctx, changes, at):
				changes, _ = d.outside()
				seen, known = "", strings.Join(changes, "\n")
				after(ctx, outsidePause)
			case due:
				settled = time.After(outsideSettled) // who has the turn lists them, perhaps
			}
		}
	})
}

func after(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// outside is what is not as it was listed, and the providers that it is with.
func (d *Daemon) outside() (changes []string, at map[string]bool) {
	var listed []seenSnapshot
	var grouped []string
	d.mu.Lock()
	for _, p := range d.o.Providers {
		g, isGrouped := p.(provider.Grouped)
		if isGrouped {
			grouped = append(grouped, p.Name())
		}
		for _, s := range d.listed[p.Name()] {
			x := seenSnapshot{Snapshot: s}
			if isGrouped {
				x.group = g.GroupOf(s)
			}
			listed = append(listed, x)
		}
	}
	d.mu.Unlock()
	var groups []pools.Group
	if d.o.Groups != nil {
		groups = d.o.Groups()
	}
	var areas pools.State
	if d.o.Watch != nil {
		areas = d.o.Watch.State()
	}
	changes, at = differences(listed, groups, areas)
	if at[anyOfLVM] {
		delete(at, anyOfLVM)
		for _, name := range grouped {
			at[name] = true
		}
	}
	return changes, at
}

// anyOfLVM stands for the providers with volumes of LVM's, of which only a listing tells whose a snapshot is.
const anyOfLVM = ""

// seenSnapshot is a listed snapshot, and its volume group; empty: it is in none.
type seenSnapshot struct {
	provider.Snapshot
	group string
}

// differences says what of the listed snapshots is otherwise in LVM's metadata, or among the copy-on-write areas, in an order of its
// own, and with which providers that is. What could not be looked at is as it was listed. Throw-away copies
// come and go without a listing.
func differences(listed []seenSnapshot, groups []pools.Group, areas pools.State) (changes []string, at map[string]bool) {
	at = map[string]bool{}
	note := func(provider, format string, a ...any) {
		changes, at[provider] = append(changes, fmt.Sprintf(format, a...)), true
	}
	there, unread := map[string]provider.Mark{}, map[string]bool{}
	for _, g := range groups {
		unread[g.Name] = unread[g.Name] || g.Err != nil || g.Seen.IsZero()
		for name, m := range g.Marks {
			there[name] = m
		}
	}
	levels := map[string]pools.Level{}
	for _, p := range areas.Pools {
		if p.Type == "snapshot" {
			levels[p.Name] = p.Level
		}
	}
	names := map[string]bool{}
	for _, s := range listed {
		names[s.Name] = true
		mark, exists := there[s.Name]
		level, hasArea := levels[s.Name]
		switch {
		case s.Scratch || unread[s.group]:
		case s.group != "" && !exists:
			note(s.Provider, "%s is gone", s.Name)
		case s.group != "" && mark != s.Mark():
			note(s.Provider, "%s is %+v", s.Name, mark)
		case s.group == "" && s.Volatile && !hasArea && areas.Err == nil && !areas.Seen.IsZero():
			note(s.Provider, "%s is gone", s.Name)
		case level == pools.Failed && s.Invalid == "" && !s.Armed:
			note(s.Provider, "%s is lost", s.Name)
		}
	}
	for name, m := range there {
		if group, _, _ := strings.Cut(name, "/"); !names[name] && !m.Scratch && !unread[group] {
			note(anyOfLVM, "%s is there, %+v", name, m)
		}
	}
	slices.Sort(changes)
	return changes, at
}

// listAnew lists the snapshots of those providers where there are changes, and tells of what has become of the sets. False: somebody has the turn.
func (d *Daemon) listAnew(ctx context.Context, changes []string, at map[string]bool) bool {
	release, free := d.turn.list()
	if !free {
		return false
	}
	defer release()
	ctx, cancel := context.WithTimeoutCause(ctx, outsideLimit, lateAfter(outsideLimit))
	defer cancel()
	const told = 10
	d.o.Log.Info("snapshots are listed anew: somebody else has changed them", "changes", len(changes), "first", strings.Join(first(changes, told), "; "))
	before := d.Known()
	_ = d.refreshFrom(ctx, func(p provider.Provider) bool { return at[p.Name()] }) // of the other providers it is no news
	for name := range at {
		if _, err := d.lastListed(name); err != nil {
			d.o.Log.Warn("somebody else has changed snapshots, but", "provider", name, "error", err)
		}
	}
	for _, text := range becomes(before, d.Known()) {
		d.o.Log.Warn("somebody else has changed a set", "what", text)
	}
	d.changed()
	return true
}

// becomes says what has become of sets, in words.
func becomes(before, after []api.Manifest) (out []string) {
	is := map[string]api.Manifest{}
	for _, m := range after {
		is[m.ID] = m
	}
	for _, m := range before {
		now, exists := is[m.ID]
		switch {
		case !exists:
			out = append(out, fmt.Sprintf("set %s of policy %q is gone", m.ID, m.Policy))
		case now.State != m.State:
			out = append(out, fmt.Sprintf("set %s of policy %q is %s: %s", m.ID, m.Policy, now.State, strings.Join(now.Reasons, "; ")))
		}
		delete(is, m.ID)
	}
	for _, m := range after {
		if _, fresh := is[m.ID]; fresh {
			out = append(out, fmt.Sprintf("set %s of policy %q is there", m.ID, m.Policy))
		}
	}
	return out
}
