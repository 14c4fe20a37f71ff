package unit

import (
	"context"
	"fmt"

	"github.com/coreos/go-systemd/v22/dbus"
)

// Dial connects to systemd itself, not through the bus: for root only.
func Dial(ctx context.Context) (Systemd, error) {
	life, end := context.WithCancel(context.Background()) // a connection ends with its context, which must not be a request's
	stop := context.AfterFunc(ctx, end)
	conn, err := dbus.NewSystemdConnectionContext(life)
	if err == nil && !stop() {
		conn.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		end()
		return nil, fmt.Errorf("cannot reach systemd: %w", err)
	}
	return manager{conn, end}, nil
}

type manager struct {
	*dbus.Conn
	end context.CancelFunc
}

func (m manager) State(ctx context.Context, unit string) (State, error) {
	p, err := m.GetAllPropertiesContext(ctx, unit)
	if err != nil {
		return State{}, fmt.Errorf("cannot ask systemd about %s: %w", unit, err)
	}
	text := func(name string) string { s, _ := p[name].(string); return s }
	can, _ := p["CanFreeze"].(bool)
	id, _ := p["InvocationID"].([]byte)
	return State{
		ID: text("Id"), Load: text("LoadState"), Active: text("ActiveState"), Freezer: text("FreezerState"),
		CanFreeze: can, Group: text("ControlGroup"), Invocation: invocation(id),
	}, nil
}

func (m manager) Freeze(ctx context.Context, unit string) error { return m.FreezeUnit(ctx, unit) }
func (m manager) Thaw(ctx context.Context, unit string) error   { return m.ThawUnit(ctx, unit) }

func (m manager) Close() error {
	m.Conn.Close()
	m.end()
	return nil
}
