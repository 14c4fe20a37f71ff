package bus

import (
	"context"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
)

func (l *link) showPool(c call, name string) (string, error) {
	ctx, cancel := context.WithTimeout(c.ctx, inventoryTimeout)
	defer cancel()
	if err := poolName(name); err != nil {
		return "", err
	}
	p, err := l.svc.ShowPool(ctx, name)
	if err != nil {
		return "", err
	}
	return toJSON(p)
}

func (l *link) measurePool(c call, name string) (dbus.ObjectPath, error) {
	if err := poolName(name); err != nil {
		return "/", err
	}
	return pathOf(l.jobs.start("measure-pool", c, func(ctx context.Context, _ *job) (any, error) {
		return l.svc.MeasurePool(ctx, name)
	}))
}

func (l *link) extendPool(c call, name string, o map[string]dbus.Variant) (dbus.ObjectPath, error) {
	options, err := decodeExtendOptions(o)
	if err == nil {
		err = poolName(name)
	}
	if err != nil {
		return "/", err
	}
	return pathOf(l.jobs.start("extend-pool", c, func(ctx context.Context, _ *job) (any, error) {
		return l.svc.ExtendPool(ctx, name, options)
	}))
}

func poolName(name string) error {
	if name == "" || len(name) > maxNameLength {
		return api.Errorf(api.Invalid, "%q is no name of a pool: it is like vg/pool", shorten(name))
	}
	return nil
}

// decodeExtendOptions makes extend options of the options of ExtendPool.
func decodeExtendOptions(o options) (x api.ExtendOptions, err error) {
	err = o.decode(map[string]field{"size_bytes": value(&x.Size), "percent": value(&x.Percent), "metadata": value(&x.Metadata)})
	if err == nil && (x.Size > 0) == (x.Percent != 0) {
		err = api.Errorf(api.Invalid, "either option size_bytes or option percent is needed")
	}
	if err == nil && !(x.Percent >= 0 && x.Percent <= 1000) { // NaN is neither
		err = api.Errorf(api.Invalid, "option percent: %g is out of range: above 0, to 1000", x.Percent)
	}
	return x, err
}
