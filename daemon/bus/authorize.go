package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
)

// Action is something that a caller must be allowed to do: the last part of a polkit action of org.fermata.fermata1.
type Action string

const (
	// Create a snapshot set, or plan one.
	Create Action = "create"
	// Quiesce volumes and writers, for as long as a requester wants.
	Quiesce Action = "quiesce"
	// Use a snapshot set: have one taken, mounted, and deleted afterwards.
	Use Action = "use"
	// Delete a snapshot set.
	Delete Action = "delete"
	// Mount a snapshot set, or unmount it.
	Mount Action = "mount"
	// Resize the copy-on-write areas of a snapshot set.
	Resize Action = "resize"
	// ExtendPool gives a pool more space.
	ExtendPool Action = "extend-pool"
	// Verify a snapshot set.
	Verify Action = "verify"
	// Report how the backup of a snapshot set went.
	Report Action = "report"
	// Pin a snapshot set, or unpin it.
	Pin Action = "pin"
	// Prune drops the sets that a policy does not keep.
	Prune Action = "prune"
	// Configure has the daemon read its configuration anew.
	Configure Action = "configure"
	// RegisterWriter makes the caller a writer.
	RegisterWriter Action = "register-writer"
	// Read the inventories, sets and jobs.
	Read Action = "read"
)

// Authorizer decides who may do what.
type Authorizer interface {
	// Authorize returns nil if the sender may do the action, which is about what details say, otherwise an error of class Denied.
	// It may take as long as ctx allows.
	Authorize(ctx context.Context, sender dbus.Sender, action Action, details Details) error
}

type interactionKey struct{}

// withInteraction notes in ctx whether a person may be asked to authenticate.
func withInteraction(ctx context.Context, allowed bool) context.Context {
	return context.WithValue(ctx, interactionKey{}, allowed)
}

// Polkit authorises by polkit (polkit(8)); root may do everything, without being asked for. Where polkit is not to be
// had, only root may do anything.
func Polkit(conn *dbus.Conn) Authorizer { return polkit{conn} }

type polkit struct{ conn *dbus.Conn }

// subject and result are the structs of org.freedesktop.PolicyKit1.Authority.CheckAuthorization.
type subject struct {
	Kind    string
	Details map[string]dbus.Variant
}

type polkitResult struct {
	Authorized bool
	Challenge  bool
	Details    map[string]string
}

const allowUserInteraction = 1

func (p polkit) Authorize(ctx context.Context, sender dbus.Sender, action Action, details Details) error {
	var uid uint32
	err := p.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetConnectionUnixUser", 0, string(sender)).Store(&uid)
	if err != nil {
		return api.Errorf(api.Denied, "cannot tell who %s is: %w", sender, err)
	}
	if uid == 0 {
		return nil
	}
	result, err := p.check(ctx, sender, action, details)
	return verdict(uid, action, result, err)
}

// verdict on a user who is not root, of what polkit answered, or of why it did not.
func verdict(uid uint32, action Action, result polkitResult, err error) error {
	switch {
	case err != nil:
		return api.Errorf(api.Denied, "only root may %s here: polkit did not answer: %w", action.deed(), err)
	case result.Authorized:
		return nil
	}
	why := "polkit does not allow it"
	if result.Challenge {
		why = "polkit wants an administrator's password, and there is nobody to ask"
	}
	return api.Errorf(api.Denied, "user %d may not %s: %s (action %s); run the command as root", uid, action.deed(), why, action.polkit())
}

// deed is the action in a sentence.
func (a Action) deed() string {
	switch a {
	case Quiesce:
		return "quiesce volumes and writers"
	case RegisterWriter:
		return "register a writer"
	case ExtendPool:
		return "extend pools"
	case Configure:
		return "have the configuration read anew"
	case Prune:
		return "drop the sets of a policy"
	}
	return string(a) + " snapshot sets"
}

func (a Action) polkit() string { return "org.fermata.fermata1." + string(a) }

func (p polkit) check(ctx context.Context, sender dbus.Sender, action Action, details Details) (polkitResult, error) {
	var flags uint32
	if ctx.Value(interactionKey{}) == true {
		flags = allowUserInteraction
	}
	who := subject{"system-bus-name", map[string]dbus.Variant{"name": dbus.MakeVariant(string(sender))}}
	told := map[string]string{} // never null
	maps.Copy(told, details)
	var r polkitResult
	err := p.conn.Object("org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority").CallWithContext(ctx,
		"org.freedesktop.PolicyKit1.Authority.CheckAuthorization", 0,
		who, action.polkit(), told, flags, "").Store(&r)
	if err != nil {
		var e dbus.Error
		if errors.As(err, &e) {
			return r, fmt.Errorf("%s: %w", e.Name, err)
		}
	}
	return r, err
}
