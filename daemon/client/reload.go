package client

import (
	"context"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
)

// Reload has the daemon read its configuration anew, and returns when it has.
func (c *Client) Reload(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	was, err := c.owner(ctx)
	if err != nil {
		return fromDBus(err)
	}
	if err := c.call(ctx, "Reload").Err; err != nil {
		return fromDBus(err)
	}
	for {
		if now, err := c.owner(ctx); err == nil && now != was {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return api.Errorf(api.Timeout, "fermatad did not come back: %w; see systemctl status fermatad", context.Cause(ctx))
		}
	}
}

// owner is the daemon's connection to the bus: another one each time that it starts.
func (c *Client) owner(ctx context.Context) (name string, err error) {
	err = c.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetNameOwner", 0, api.BusName).Store(&name)
	return name, err
}
