package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/child"
)

// VerifySet looks whether a set can be used, on throw-away copies of its snapshots. What it finds is the result, and in the
// manifest; an error says that it could not look. Other sets are taken meanwhile.
func (d *Daemon) VerifySet(ctx context.Context, id string, progress func(string)) (*api.Verification, error) {
	m, _, err := d.find(id)
	if err != nil {
		return nil, err
	}
	release, err := d.beside(m.ID, hooks.PhaseVerify)
	if err != nil {
		return nil, err
	}
	defer release()
	fail := func(err error) (*api.Verification, error) {
		return nil, classed(api.Failed, fmt.Errorf("cannot verify set %s: %w", m.ID, err))
	}
	v := api.Verification{Time: time.Now().UTC()}
	progress("copy")
	mounts, lost, err := d.copies(ctx, m)
	switch {
	case len(lost) > 0: // of the rest nothing would follow
		v.Checks = lost
	case err == nil:
		v.Checks, err = d.checks(ctx, m, mounts, progress)
	}
	progress("clean up")
	if err = errors.Join(late(err), d.dropCopies(ctx, m.ID)); err != nil {
		return fail(err)
	}
	v.Duration = time.Since(v.Time)
	v.OK = len(v.Checks) > 0 && !slices.ContainsFunc(v.Checks, func(c api.Check) bool { return c.Error != "" })
	d.o.Log.Info("set verified", "set", m.ID, "ok", v.OK, "checks", len(v.Checks))
	if err := d.amend(m.ID, func(m *api.Manifest) { m.Verified = &v }); err != nil {
		d.o.Log.Warn("the set is verified, but", "set", m.ID, "error", err) // tried again with the next change
	}
	return &v, nil
}

// copies makes throw-away copies of a set's snapshots and says how they are mounted; none, if one of the snapshots is lost.
// Whoever calls it drops them, however far it got.
func (d *Daemon) copies(ctx context.Context, m api.Manifest) (mounts []child.Mount, lost []api.Check, err error) {
	release, err := d.turn.take(ctx, false)
	if err != nil {
		return nil, nil, err
	}
	defer release()
	ctx, cancel := d.bounded(ctx)
	defer cancel()
	_ = d.refresh(ctx) // a provider that cannot tell, of another set perhaps, is no reason; what it told last will do
	m, snaps, err := d.find(m.ID)
	if err != nil {
		return nil, nil, err
	}
	if lost := lostOf(m, snaps); len(lost) > 0 {
		return nil, lost, nil
	}
	present, err := d.mountsOf(m.ID)
	if err != nil {
		return nil, nil, err
	}
	if i := slices.IndexFunc(mountsIn(present), func(x api.Mount) bool { return x.Writable }); i >= 0 {
		return nil, nil, api.Errorf(api.Busy, "it is mounted to be written to (fermata snapshot umount %s)", m.ID)
	}
	for _, s := range snaps {
		if raw(s) {
			continue
		}
		call, _, err := d.image(ctx, s, true)
		if err != nil {
			return nil, nil, err
		}
		mounts = append(mounts, child.Mount{Device: call.Device, FSType: call.FSType, Options: call.Options, Path: s.MountPoint})
	}
	return mounts, nil, nil
}

// lostOf are the snapshots that a finished set has lost since. A set without its manifest does not know their names.
func lostOf(m api.Manifest, snaps []provider.Snapshot) (lost []api.Check) {
	note := func(point, volume, why string) {
		lost = append(lost, api.Check{MountPoint: cmp.Or(point, volume), Error: why})
	}
	for _, v := range m.Volumes {
		if v.Name != "" && !slices.ContainsFunc(snaps, func(s provider.Snapshot) bool { return s.Name == v.Name }) {
			note(v.MountPoint, v.Volume, fmt.Sprintf("its snapshot %s does not exist any more", v.Name))
		}
	}
	for _, s := range snaps {
		if s.Invalid != "" {
			note(s.MountPoint, s.Origin, "its snapshot is lost: "+s.Invalid)
		}
	}
	if members := snaps[0].Set.Members; len(lost) == 0 && len(snaps) < members {
		note("", "", fmt.Sprintf("%d of %d snapshots exist", len(snaps), members))
	}
	return lost
}

// dropCopies removes a set's throw-away copies.
func (d *Daemon) dropCopies(ctx context.Context, set string) error {
	ctx = context.WithoutCancel(ctx)
	release, err := d.turn.take(ctx, false)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := d.within(ctx, d.changeLimit)
	defer cancel()
	var errs []error
	reading := provider.Reading(ctx)
	for _, p := range d.providersOf(set) {
		snaps, err := p.Snapshots(reading)
		scratch := slices.DeleteFunc(slices.Clone(snaps), func(s provider.Snapshot) bool { return s.Set.ID != set || !s.Scratch })
		errs = append(errs, err)
		if len(scratch) > 0 {
			errs = append(errs, d.remove(ctx, scratch))
		}
	}
	return errors.Join(errs...)
}

// checks are made one after the other: of filesystems first, before a writer changes them.
func (d *Daemon) checks(ctx context.Context, m api.Manifest, mounts []child.Mount, progress func(string)) ([]api.Check, error) {
	stage, err := d.newStage(mounts)
	if err != nil {
		return nil, err
	}
	var writers []config.Writer
	events := map[string]hooks.Event{}
	for _, w := range m.Writers {
		c, ev, err := d.partOf(m, w)
		if err == nil && takes(c, hooks.PhaseVerify) {
			ev.Stage = stage
			writers, events[c.Name] = append(writers, c), ev
		}
	}
	mounts = slices.DeleteFunc(slices.Clone(mounts), func(x child.Mount) bool { return vouched(x.Path, mounts, writers) })
	var out []api.Check
	begin := func(what string) {
		if all := len(mounts) + len(writers); all > 1 {
			what = fmt.Sprintf("%s %d%%", what, 100*len(out)/all)
		}
		progress(what)
	}
	done := func(c api.Check, begun time.Time, err error) error {
		if c.Duration = time.Since(begun); err != nil {
			c.Error = err.Error()
		}
		out = append(out, c)
		if ctx.Err() != nil {
			return classed(api.Cancelled, context.Cause(ctx))
		}
		return nil
	}
	for _, x := range mounts {
		begin("check " + x.Path)
		begun := time.Now()
		alone, err := d.newStage([]child.Mount{x})
		if err == nil {
			err = d.o.Host.CheckFilesystem(ctx, alone)
		}
		if err := done(api.Check{MountPoint: x.Path}, begun, err); err != nil {
			return nil, err
		}
	}
	for _, c := range writers {
		begin("verify " + c.Name)
		begun := time.Now()
		r := d.ask(ctx, c, hooks.PhaseVerify, events[c.Name])
		if err := done(api.Check{Writer: c.Name, Data: r.Answer.Data}, begun, r.Err); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// vouched reports whether a writer verifies something on the filesystem at a mount point: then it is known to be good where
// that matters.
func vouched(point string, mounts []child.Mount, writers []config.Writer) bool {
	for _, w := range writers {
		for _, c := range w.Components {
			for _, path := range c.Paths {
				if lyingOn(path, mounts) == point {
					return true
				}
			}
		}
	}
	return false
}

// lyingOn is the mount point that a path lies on; empty: on none of them.
func lyingOn(path string, mounts []child.Mount) (point string) {
	for _, m := range mounts {
		inside := m.Path == "/" || path == m.Path || strings.HasPrefix(path, m.Path+"/")
		if inside && len(m.Path) > len(point) {
			point = m.Path
		}
	}
	return point
}
