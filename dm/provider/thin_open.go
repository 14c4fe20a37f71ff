package provider

import (
	"context"

	"github.com/fermata-project/fermata/dm"
)

// Open makes the captured snapshots ones that can be written to, and their devices.
func (e *thinSet) Open(ctx context.Context) ([]Image, error) {
	if err := e.lvm.SetWritable(ctx, e.names()...); err != nil {
		return nil, err
	}
	var out []Image
	for _, m := range e.members {
		name := m.vg + "/" + m.snapshot
		device, err := e.thin.Expose(ctx, Snapshot{Name: name})
		if err != nil {
			return nil, err
		}
		out = append(out, Image{Volume: m.volume, Device: device})
	}
	return out, nil
}

// Seal takes the devices away and makes the snapshots read-only, as they were armed. It does so whatever is left of Open.
func (e *thinSet) Seal(ctx context.Context) error {
	var active []string
	for _, name := range e.names() {
		if _, err := e.control.Info(dm.ByName(deviceName(name))); err == nil {
			active = append(active, name)
		}
	}
	if err := e.lvm.Deactivate(ctx, active...); err != nil {
		return err
	}
	return e.lvm.SetReadOnly(ctx, e.names()...)
}

var _ Opener = (*thinSet)(nil)
