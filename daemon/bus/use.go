package bus

import (
	"context"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
)

// useSet lends a set to the requester: a job that holds until Release, or until the requester leaves the bus.
func (l *link) useSet(c call, o map[string]dbus.Variant) (dbus.ObjectPath, error) {
	request, err := decodeUse(o)
	if err != nil {
		return "/", err
	}
	if request.Set != "" {
		m, err := resolve(l.svc.Sets(), request.Set)
		if err != nil {
			return "/", err
		}
		request.Set = m.ID
	}
	c.policy = request.Policy
	pid := l.processOf(c)
	h := newHold()
	j, err := l.jobs.startHold("use", c, h, func(ctx context.Context, j *job) (any, error) {
		mounted := func(id string) {
			j.set.Store(&id)
			h.isHeld()
		}
		return l.svc.UseSet(ctx, request, api.Use{Process: pid, Mounted: mounted, Release: h.release}, j.setPhase)
	})
	if err == nil {
		l.follow(j)
	}
	return pathOf(j, err)
}

// decodeUse makes a request of the options of UseSet: those of its own, and those of CreateSet, unless the set is there.
func decodeUse(o options) (r api.UseRequest, err error) {
	own := map[string]field{
		"set":      text(&r.Set, maxIDLength),
		"keep":     value(&r.Keep),
		"writable": value(&r.Mount.Writable),
		"target":   text(&r.Mount.Target, maxPathLength),
	}
	mine, rest := options{}, options{}
	for key, v := range o {
		if _, ok := own[key]; ok {
			mine[key] = v
		} else {
			rest[key] = v
		}
	}
	if err := mine.decode(own); err != nil {
		return r, err
	}
	if r.Mount.Target != "" {
		if err := absolute(r.Mount.Target); err != nil {
			return r, api.Errorf(api.Invalid, "option target: %w", err)
		}
	}
	if r.Set != "" {
		if len(rest) > 0 || r.Keep {
			return r, api.Errorf(api.Invalid, "set %s is there: nothing is said of one that would be taken", shorten(r.Set))
		}
		return r, nil
	}
	request, detach, err := decodeRequest(rest)
	r.Request = request
	switch {
	case err != nil:
		return r, err
	case detach || r.DryRun || r.Method == api.Clone:
		return r, api.Errorf(api.Invalid, "a set that is only planned, copied, or nobody's cannot be used: take it first, and name it in set")
	}
	return r, nil
}
