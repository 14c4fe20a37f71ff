package daemon

import (
	"context"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
)

// PinSet keeps a set, whatever the retention of its policy says and however full its pool is, until it is unpinned. One that is pinned
// stays as it is.
func (d *Daemon) PinSet(ctx context.Context, id, by string) error {
	return d.setPin(ctx, id, &api.Pin{Time: time.Now().UTC(), By: by})
}

// UnpinSet lets a set go that was pinned.
func (d *Daemon) UnpinSet(ctx context.Context, id string) error { return d.setPin(ctx, id, nil) }

func (d *Daemon) setPin(ctx context.Context, id string, pin *api.Pin) error {
	release, err := d.turn.take(ctx, false) // nobody is dropping it meanwhile
	if err != nil {
		return err
	}
	defer release()
	m, _, err := d.find(id)
	switch {
	case err != nil:
		return err
	case (m.Pinned == nil) == (pin == nil) && !m.Lost:
		return nil
	}
	// What could not be written is tried again; until then a restart would forget it, and who pins a set has to know that.
	decide := func(m *api.Manifest) { m.Pinned, m.Passing, m.Lost = pin, false, false } // from now on it is one of its policy's
	if err := d.amend(m.ID, decide); err != nil {
		return api.Errorf(api.Of(err), "cannot write down whether set %s is pinned: %w", m.ID, err)
	}
	d.o.Log.Info("set pinned", "set", m.ID, "pinned", pin != nil)
	return nil
}

// whilePinned refuses to delete a set that is pinned.
func whilePinned(m api.Manifest) error {
	if m.Pinned == nil {
		return nil
	}
	return api.Errorf(api.Refused, "cannot delete set %s: it is pinned (fermata snapshot unpin %s lets it go)", m.ID, m.ID)
}

// expires reports whether a set exists that may go once it has served its purpose.
func (d *Daemon) expires(id string) bool {
	m, _, err := d.find(id)
	return err == nil && m.Pinned == nil
}
