// Package client speaks to fermatad over D-Bus, with the types of package api. The CLI and every other Go requester
// use it; the methods mirror [api.Service].
package client

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
)

// AddressVariable names the environment variable that overrides the system bus by another bus's address.
const AddressVariable = "FERMATA_BUS_ADDRESS"

// callTimeout bounds a call that is no job, when the caller's context has no nearer end: a person may have to
// authenticate, and LVM may be slow.
const callTimeout = 2 * time.Minute

// Client is a connection to fermatad. It is safe for concurrent use.
type Client struct {
	conn *dbus.Conn
	obj  dbus.BusObject
}

// Dial connects to the system bus. The daemon is started by the first call, if it does not run.
func Dial(ctx context.Context) (*Client, error) {
	conn, err := connect(ctx)
	if err != nil {
		return nil, api.Errorf(api.Failed, "cannot reach the system bus: %w; see systemctl status dbus", err)
	}
	return &Client{conn: conn, obj: conn.Object(api.BusName, api.ManagerPath)}, nil
}

// connect gives up when ctx ends, also on a bus that accepts and never answers. The connection outlives ctx.
func connect(ctx context.Context) (*dbus.Conn, error) {
	type result struct {
		conn *dbus.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		order := dbus.WithSignalHandler(dbus.NewSequentialSignalHandler())
		var r result
		if address := os.Getenv(AddressVariable); address != "" {
			r.conn, r.err = dbus.Connect(address, order)
		} else {
			r.conn, r.err = dbus.ConnectSystemBus(order)
		}
		done <- r
	}()
	select {
	case r := <-done:
		return r.conn, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.conn != nil {
				r.conn.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// Close the connection. A set that this client asked for and that is still being taken is cancelled by that.
func (c *Client) Close() error { return c.conn.Close() }

// call a method of the manager.
func (c *Client) call(ctx context.Context, method string, args ...any) *dbus.Call {
	return invoke(ctx, c.obj, api.ManagerInterface+"."+method, args...)
}

func invoke(ctx context.Context, o dbus.BusObject, method string, args ...any) *dbus.Call {
	return o.CallWithContext(ctx, method, dbus.FlagAllowInteractiveAuthorization, args...)
}

// get calls a method whose answer is JSON.
func get[T any](ctx context.Context, c *Client, method string, args ...any) (T, error) {
	var value T
	var text string
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := c.call(ctx, method, args...).Store(&text); err != nil {
		return value, fromDBus(err)
	}
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		return value, api.Errorf(api.Failed, "cannot read what fermatad answered to %s: %w", method, err)
	}
	return value, nil
}

// Sets are all sets, newest last.
func (c *Client) Sets(ctx context.Context) ([]api.Manifest, error) {
	return get[[]api.Manifest](ctx, c, "ListSets")
}

// Set is the manifest of one set: named by id, by a prefix of one id only, by "latest" or "latest:POLICY".
func (c *Client) Set(ctx context.Context, ref string) (*api.Manifest, error) {
	return get[*api.Manifest](ctx, c, "GetSet", ref)
}

// Policies are the configured policies.
func (c *Client) Policies(ctx context.Context) ([]api.Policy, error) {
	return get[[]api.Policy](ctx, c, "ListPolicies")
}

// PlanPrune says what PrunePolicy would do now.
func (c *Client) PlanPrune(ctx context.Context, policy string) ([]api.Verdict, error) {
	return get[[]api.Verdict](ctx, c, "PlanPrune", policy)
}

// Writers are the declared writers.
func (c *Client) Writers(ctx context.Context) ([]api.Writer, error) {
	return get[[]api.Writer](ctx, c, "ListWriters")
}

// Providers of the host.
func (c *Client) Providers(ctx context.Context) ([]api.Provider, error) {
	return get[[]api.Provider](ctx, c, "ListProviders")
}

// Pools of the host.
func (c *Client) Pools(ctx context.Context) ([]api.Pool, error) {
	return get[[]api.Pool](ctx, c, "ListPools")
}

// ShowPool tells of one pool.
func (c *Client) ShowPool(ctx context.Context, name string) (*api.PoolDetails, error) {
	return get[*api.PoolDetails](ctx, c, "ShowPool", name)
}

// Volumes of the host.
func (c *Client) Volumes(ctx context.Context) ([]api.Volume, error) {
	return get[[]api.Volume](ctx, c, "ListVolumes")
}

// Status of the daemon.
func (c *Client) Status(ctx context.Context) (api.Status, error) {
	return get[api.Status](ctx, c, "Status")
}

// Running reports whether fermatad is on the bus, and whether the bus could start it. It starts nothing.
func (c *Client) Running(ctx context.Context) (running, activatable bool, err error) {
	bus := c.conn.BusObject()
	if err = bus.CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, api.BusName).Store(&running); err != nil {
		return
	}
	var names []string
	if err = bus.CallWithContext(ctx, "org.freedesktop.DBus.ListActivatableNames", 0).Store(&names); err != nil {
		return
	}
	for _, n := range names {
		activatable = activatable || n == api.BusName
	}
	return
}

const errorPrefix = api.BusName + ".Error."

// fromDBus gives an error of the bus its class back, and says what to do about a daemon that is not there.
func fromDBus(err error) error {
	var e dbus.Error
	if !errors.As(err, &e) {
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return api.Errorf(api.Timeout, "fermatad did not answer in time: %w; see systemctl status fermatad", err)
		case errors.Is(err, context.Canceled):
			return api.Errorf(api.Cancelled, "the wait for fermatad was cancelled: %w", err)
		}
		return unreachable(err)
	}
	if class, ok := strings.CutPrefix(e.Name, errorPrefix); ok {
		return &api.Error{Class: api.Class(class), Err: errors.New(e.Error())}
	}
	switch e.Name {
	case "org.freedesktop.DBus.Error.AccessDenied":
		return api.Errorf(api.Denied, "the bus does not let this user speak to fermatad: %w; run the command as root", err)
	case "org.freedesktop.DBus.Error.UnknownObject":
		return &api.Error{Class: api.NotFound, Err: err}
	case "org.freedesktop.DBus.Error.InvalidArgs", "org.freedesktop.DBus.Error.UnknownMethod":
		return api.Errorf(api.Failed, "this client and fermatad do not fit together: %w; are both of one version?", err)
	case "org.freedesktop.DBus.Error.NoReply":
		return api.Errorf(api.Failed, "fermatad ended before it answered: %w; see journalctl -u fermatad", err)
	}
	return unreachable(err)
}

func unreachable(err error) error {
	return api.Errorf(api.Failed, "cannot reach fermatad: %w; see systemctl status fermatad", err)
}
