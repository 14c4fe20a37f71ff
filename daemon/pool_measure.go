package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm/provider"
)

// measureLimit bounds the reading of a pool's metadata.
const measureLimit = 2 * time.Minute

// MeasurePool tells of one pool, with the share of each snapshot. Taking a snapshot of its metadata, and giving that up, commits the
// pool, so both wait for their turn; reading it disturbs nobody.
func (d *Daemon) MeasurePool(ctx context.Context, name string) (out *api.PoolDetails, err error) {
	if out, err = d.ShowPool(ctx, name); err != nil {
		return nil, err
	}
	m, err := d.measurer()
	if err != nil {
		return nil, err
	}
	device := out.Device
	defer func() {
		if err != nil {
			out, err = nil, classed(api.Failed, late(fmt.Errorf("cannot measure pool %s: %w", name, err)))
		}
	}()
	if err := d.inTurn(ctx, func() error { return d.holdMetadata(m, device) }); err != nil {
		return nil, err
	}
	defer func() { // also when the requester has gone
		err = errors.Join(err, d.inTurn(context.WithoutCancel(ctx), func() error { return d.releaseMetadata(m, device) }))
	}()
	reading, cancel := context.WithTimeoutCause(ctx, measureLimit, lateAfter(measureLimit))
	defer cancel()
	shares, err := m.Shares(reading, device)
	if err != nil {
		return nil, err
	}
	for i := range out.Snapshots {
		s := &out.Snapshots[i]
		if u, ok := shares[s.Name]; ok {
			s.Share = &api.PoolShare{Mapped: u.Mapped, Own: u.Own}
		}
	}
	return out, nil
}

func (d *Daemon) measurer() (provider.Measurer, error) {
	for _, p := range d.o.Providers {
		if m, ok := p.(provider.Measurer); ok {
			return m, nil
		}
	}
	return nil, api.Errorf(api.Invalid, "cannot measure pools: provider thin is switched off")
}

func (d *Daemon) inTurn(ctx context.Context, do func() error) error {
	release, err := d.turn.take(ctx, false)
	if err != nil {
		return err
	}
	defer release()
	return do()
}

// heldMetadata is the note of a metadata snapshot that is ours, for the next start.
func (d *Daemon) heldMetadata() string { return filepath.Join(d.o.RunDir, "measured-pool") }

// holdMetadata takes the snapshot of one pool's metadata at a time.
func (d *Daemon) holdMetadata(m provider.Measurer, device string) error {
	f, err := os.OpenFile(d.heldMetadata(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return api.Errorf(api.Busy, "a pool is being measured: try again later")
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(device)
	if err = errors.Join(err, f.Close()); err == nil {
		err = m.Hold(device)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(d.heldMetadata()))
	}
	return err
}

func (d *Daemon) releaseMetadata(m provider.Measurer, device string) error {
	if err := m.Release(device); err != nil {
		return err
	}
	return os.Remove(d.heldMetadata())
}

// releaseMeasured releases what a daemon that died has left.
func (d *Daemon) releaseMeasured() error {
	device, err := os.ReadFile(d.heldMetadata())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	m, missing := d.measurer()
	if err = errors.Join(err, missing); err != nil {
		return err
	}
	return d.releaseMetadata(m, strings.TrimSpace(string(device)))
}
