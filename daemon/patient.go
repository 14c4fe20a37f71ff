package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
)

// flushed is something opened to be written out.
type flushed struct {
	Syncer
	dev  uint64
	name string
}

func flushKey(dev uint64) string { return fmt.Sprintf("flush %d", dev) }

// flush writes out what is dirty.
func (d *Daemon) flush(ctx context.Context, s flushed) error {
	return d.calls.do(ctx, call{key: flushKey(s.dev), what: "a flush of " + s.name, fail: "write out " + s.name}, s.Sync)
}

// admit asks a provider for room.
func (d *Daemon) admit(ctx context.Context, p provider.Provider, vols []provider.Volume) error {
	x := call{key: "admit " + p.Name(), what: "provider " + p.Name() + ", asked for room,", fail: "ask provider " + p.Name() + " for room"}
	x.grace = time.Second
	return d.calls.do(ctx, x, func() error { return p.Admit(ctx, vols) })
}

// pools asks a provider for its pools.
func (d *Daemon) pools(ctx context.Context, p provider.Pooler, name string) (pools []provider.Pool, err error) {
	ctx, cancel := reading(ctx)
	defer cancel()
	var got []provider.Pool // not the result, which is the caller's if it does not return
	x := call{key: "pools " + name, what: "provider " + name + ", asked for its pools,", fail: "see the pools of provider " + name}
	if err := d.calls.do(ctx, x, func() (err error) { got, err = p.Pools(); return err }); err != nil {
		return nil, err
	}
	return got, nil
}

// targets are Host.Targets, as long as ctx allows.
func (d *Daemon) targets(ctx context.Context) func(dev uint64) ([]string, error) {
	return func(dev uint64) ([]string, error) {
		var got []string
		x := call{key: fmt.Sprintf("targets %d", dev), what: "the status of device " + dm.Dev(dev).String(), fail: "see the status of device " + dm.Dev(dev).String()}
		if err := d.calls.do(ctx, x, func() (err error) { got, err = d.o.Host.Targets(dev); return err }); err != nil {
			return nil, err
		}
		return got, nil
	}
}
