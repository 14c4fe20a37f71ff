package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
)

// armed is one volume ready to fire.
type armed struct {
	fd                       int
	suspend, capture, resume *dm.Call
}

// arm has the provider arm volumes, and prepares the ioctls itself: what Fermata does with its own in the window is not
// part of the floor. disarm undoes it, also after an error.
func (g *group) arm(ctx context.Context, vols []volume) (ready []armed, disarm func() error, err error) {
	undo := undo{}
	var of []provider.Volume
	for _, v := range vols {
		of = append(of, v.of)
	}
	id := time.Now().UTC().Format("20060102T150405.000000")
	e, err := g.provider.Prepare(ctx, provider.Set{ID: id, Members: len(vols)}, of)
	undo.add(func() error { return e.Abort(context.WithoutCancel(ctx)) })
	if err != nil {
		return nil, undo.all, err
	}
	for _, v := range vols {
		a := armed{
			suspend: g.control.PrepareSuspend(v.of.Dev, dm.SkipLockFS),
			resume:  g.control.PrepareResume(v.of.Dev, dm.SkipLockFS),
		}
		if a.capture, err = g.capture(ctx, v, id); err != nil {
			return nil, undo.all, err
		}
		if a.fd, err = unix.Open(v.of.MountPoint, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return nil, undo.all, fmt.Errorf("cannot open %s: %w", v.of.MountPoint, err)
		}
		undo.add(func() error { return unix.Close(a.fd) })
		ready = append(ready, a)
	}
	if err := e.Lock(ctx); err != nil {
		return nil, undo.all, err
	}
	undo.add(e.Unlock)
	return ready, undo.all, nil
}

// captureThin re-takes the thin device behind LVM's record.
func (s *stage) captureThin(ctx context.Context, v volume, set string) (*dm.Call, error) {
	inventory, err := s.lvm.Report(ctx, vg)
	if err != nil {
		return nil, err
	}
	targets, _, err := s.control.Table(dm.ByDev(v.of.Dev))
	if err != nil {
		return nil, err
	}
	t, err := dm.ParseThinTable(targets[0].Params)
	if err != nil {
		return nil, err
	}
	for _, lv := range inventory.LVs {
		if lv.VG == vg && strings.HasPrefix(lv.Name, v.lv+".") && strings.HasSuffix(lv.Name, set) && lv.ThinID != nil {
			return s.control.PrepareMessage(t.Pool, 0, fmt.Sprintf("create_snap %d %d", *lv.ThinID, t.ID)), nil
		}
	}
	return nil, fmt.Errorf("LVM does not know the snapshot of %s", v.lv)
}

// captureTable makes the snapshot's preloaded table live.
func (s *stage) captureTable(_ context.Context, v volume, set string) (*dm.Call, error) {
	all, err := s.control.List()
	if err != nil {
		return nil, err
	}
	for _, d := range all {
		if strings.Contains(d.Name, v.lv+".") && strings.HasSuffix(d.Name, set) {
			return s.control.PrepareResumeUdev(d.Dev, dm.SkipLockFS, dm.UdevPrivate|dm.UdevLowPriority), nil
		}
	}
	return nil, fmt.Errorf("there is no armed snapshot of %s", v.lv)
}

// undo is what has to be done in reverse order.
type undo struct{ steps []func() error }

func (u *undo) add(step func() error) { u.steps = append(u.steps, step) }

func (u *undo) all() error {
	var errs []error
	for i := len(u.steps) - 1; i >= 0; i-- {
		errs = append(errs, u.steps[i]())
	}
	u.steps = nil
	return errors.Join(errs...)
}
