package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fermata-project/fermata/dm/provider"
)

// patientSet is a provider's part in a set, whose methods outside of the freeze window end in time: beside the commands,
// which heed a context, they ask device-mapper, which may wait for a disk. One call of a provider is left behind at a time,
// and what it should have undone is undone when it returns.
type patientSet struct {
	provider.Enlistment
	daemon   *Daemon
	name     string // the provider's
	volatile bool   // a reboot may take its snapshots away
}

// volatileFirst is the order in which parts are finished. A power cut in between takes what is volatile away, and must find the rest
// half-made: it would stand for a finished set that has lost a part.
func volatileFirst(parts []provider.Enlistment) []provider.Enlistment {
	rank := func(p provider.Enlistment) int {
		if s, ok := p.(*patientSet); ok && s.volatile {
			return 0
		}
		return 1
	}
	return slices.SortedStableFunc(slices.Values(parts), func(a, b provider.Enlistment) int { return rank(a) - rank(b) })
}

// heeding is what a call gets that heeds its context, to end by itself.
const heeding = time.Second

func (d *Daemon) change(ctx context.Context, name, doing, do string, then []func() error, f func() error) error {
	x := call{key: changeKey(name), what: "provider " + name + ", " + doing + ",", fail: do + " by provider " + name, grace: heeding, then: then}
	return d.calls.do(ctx, x, f)
}

func changeKey(name string) string { return "change " + name }

// prepare has a provider arm volumes. What a call that was left behind has armed is undone when it returns.
func (d *Daemon) prepare(ctx context.Context, p provider.Provider, set provider.Set, vols []provider.Volume) (*patientSet, error) {
	var got provider.Enlistment
	abandon := func() error {
		if got == nil {
			return nil
		}
		ctx, cancel := d.within(context.Background(), d.undoLimit)
		defer cancel()
		return got.Abort(ctx)
	}
	err := d.change(ctx, p.Name(), "arming", "arm the volumes", []func() error{abandon}, func() (err error) {
		got, err = p.Prepare(ctx, set, vols)
		return err
	})
	if errors.Is(err, errLeft) {
		return nil, d.left(set.ID, err)
	}
	if got == nil {
		return nil, err
	}
	x, ok := p.(provider.Fleeting)
	return &patientSet{got, d, p.Name(), ok && x.Volatile()}, err
}

func (p *patientSet) Lock(ctx context.Context) error {
	unlock := []func() error{p.Enlistment.Unlock}
	return p.daemon.change(ctx, p.name, "locking its pools", "lock the pools", unlock, func() error { return p.Enlistment.Lock(ctx) })
}

func (p *patientSet) Unlock() error {
	return p.daemon.calls.after(changeKey(p.name), p.Enlistment.Unlock)
}

func (p *patientSet) Verify() error {
	ctx, cancel := p.daemon.within(context.Background(), p.daemon.undoLimit)
	defer cancel()
	return p.daemon.change(ctx, p.name, "verifying its pools", "verify the pools", nil, p.Enlistment.Verify)
}

func (p *patientSet) Finalize(ctx context.Context, f provider.Final) ([]provider.Snapshot, error) {
	var got []provider.Snapshot
	err := p.daemon.change(ctx, p.name, "finishing", "finish the set", nil, func() (err error) {
		got, err = p.Enlistment.Finalize(ctx, f)
		return err
	})
	if err != nil {
		return nil, err
	}
	return got, nil
}

// open makes the snapshots writable. A provider that cannot do so says no.
func (p *patientSet) open(ctx context.Context) (images []provider.Image, err error) {
	o, ok := p.Enlistment.(provider.Opener)
	if !ok {
		return nil, fmt.Errorf("the snapshots of provider %s cannot be written to", p.name)
	}
	var got []provider.Image
	err = p.daemon.change(ctx, p.name, "opening", "open the snapshots", nil, func() (err error) {
		got, err = o.Open(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return got, nil
}

// seal undoes open, and nothing where there is nothing to undo.
func (p *patientSet) seal(ctx context.Context) error {
	o, ok := p.Enlistment.(provider.Opener)
	if !ok {
		return nil
	}
	return p.daemon.change(ctx, p.name, "sealing", "seal the snapshots", nil, func() error { return o.Seal(ctx) })
}

// Abort is put off while another call of the provider goes on. It frees what the set uses, whoever removes the snapshots.
func (p *patientSet) Abort(ctx context.Context) error {
	err := p.daemon.change(ctx, p.name, "undoing", "undo the set", nil, func() error { return p.Enlistment.Abort(ctx) })
	if err == nil || errors.Is(err, errLeft) || p.daemon.calls.left(changeKey(p.name)) == nil {
		return err
	}
	return errors.Join(err, p.daemon.calls.after(changeKey(p.name), func() error {
		ctx, cancel := p.daemon.within(context.Background(), p.daemon.undoLimit)
		defer cancel()
		return p.Enlistment.Abort(ctx)
	}))
}

// Limit passes on what the provider may need to know.
func (p *patientSet) Limit(window time.Duration) {
	if l, ok := p.Enlistment.(provider.Limiter); ok {
		l.Limit(window)
	}
}
