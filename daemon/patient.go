package daemon

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/fsfreeze"
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

// open opens a filesystem.
func (d *Daemon) open(ctx context.Context, f fsfreeze.Filesystem) (Filesystem, error) {
	return opened(d, ctx, f.Dev, f.Point(), func() (Filesystem, error) { return d.o.Host.Open(f) })
}

// openDevice opens a block device.
func (d *Daemon) openDevice(ctx context.Context, dev uint64, name string) (Syncer, error) {
	return opened(d, ctx, dev, name, func() (Syncer, error) { return d.o.Host.OpenDevice(dev) })
}

// opened opens what is to be flushed. One that is left behind is closed when it returns.
func opened[T io.Closer](d *Daemon, ctx context.Context, dev uint64, name string, open func() (T, error)) (T, error) {
	var got, none T
	var err error
	x := call{key: flushKey(dev), what: "opening " + name, fail: "open " + name}
	x.then = append(x.then, func() error {
		if err != nil {
			return nil
		}
		return got.Close()
	})
	if err := d.calls.do(ctx, x, func() error { got, err = open(); return err }); err != nil {
		return none, err
	}
	return got, nil
}

// resolved is resolve, which asks filesystems and devices what they are.
func (d *Daemon) resolved(ctx context.Context, policy effective) (plan, error) {
	var p plan
	x := call{key: "resolve", what: "a look at the volumes", fail: "look at the volumes"}
	if err := d.calls.do(ctx, x, func() (err error) { p, err = d.resolve(policy); return err }); err != nil {
		return plan{}, err
	}
	return p, nil
}

// mounting is what mounts or unmounts a part of a set.
func (d *Daemon) mounting(ctx context.Context, set, verb, path string, do func() error) error {
	return d.calls.do(ctx, call{key: mountKey(set), what: verb + "ing " + path, fail: verb + " " + path}, do)
}

func mountKey(set string) string { return "mount " + set }

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
