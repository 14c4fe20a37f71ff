package dbuswriter

import (
	"context"
	"errors"
	"time"

	"github.com/godbus/dbus/v5"
)

// Names of the protocol.
const (
	// Interface is what a service exports: the methods Prepare, Freeze, Thaw, Abort, Post and Report, each a{sv} → a{sv}.
	Interface = "org.fermata.Fermata1.Writer"
	// ErrorInactive is the D-Bus error by which Prepare says that there is nothing to freeze.
	ErrorInactive = "org.fermata.Fermata1.Writer.Error.Inactive"
	// ErrorHoldLost is the D-Bus error by which Thaw says that the hold did not last.
	ErrorHoldLost = "org.fermata.Fermata1.Writer.Error.HoldLost"

	busName          = "org.fermata.Fermata1"
	managerPath      = "/org/fermata/Fermata1"
	managerInterface = "org.fermata.Fermata1.Manager"
	errorFailed      = "org.fermata.Fermata1.Writer.Error.Failed"
	errorDenied      = "org.freedesktop.DBus.Error.AccessDenied"
)

var (
	// ErrInactive may be wrapped by what Prepare returns: the application is at rest, and needs no freeze.
	ErrInactive = errors.New("inactive")
	// ErrHoldLost may be wrapped by what Thaw returns: the application did not hold still until now.
	ErrHoldLost = errors.New("hold lost")
)

// Event is what Fermata says with each phase.
type Event struct {
	Set     string        // id of the snapshot set
	Policy  string        // name of the policy, or empty
	DryRun  bool          // all phases run, but no snapshot is taken
	Timeout time.Duration // how long Fermata waits for the answer; the function's context ends then
	Outcome string        // with Thaw, Abort, Post and Report: "ok", "failed" or "timeout"
	Volumes []string      // with Prepare and Report: the set's mount points
}

// Func is the writer's part in one phase. What it returns goes into the set's manifest: values that D-Bus can carry, at
// most 64 KiB as JSON.
type Func func(context.Context, Event) (map[string]any, error)

// parseEvent reads what it knows; more keys may come, and wrong types are as good as missing.
func parseEvent(o map[string]dbus.Variant) Event {
	var e Event
	var ms uint64
	for key, into := range map[string]any{
		"set": &e.Set, "policy": &e.Policy, "dry_run": &e.DryRun, "timeout_ms": &ms, "outcome": &e.Outcome, "volumes": &e.Volumes,
	} {
		if v, ok := o[key]; ok {
			_ = v.Store(into)
		}
	}
	const day = 24 * 60 * 60 * 1000
	e.Timeout = time.Duration(min(ms, day)) * time.Millisecond
	return e
}

func answer(data map[string]any) (map[string]dbus.Variant, *dbus.Error) {
	out := map[string]dbus.Variant{}
	for key, value := range data {
		v, err := variant(value)
		if err != nil {
			return nil, dbus.NewError(errorFailed, []any{"what is to be kept as " + key + " cannot be sent: " + err.Error()})
		}
		out[key] = v
	}
	return out, nil
}

// variant makes a value of D-Bus, which has no type for some of Go's.
func variant(value any) (v dbus.Variant, err error) {
	defer func() {
		if p := recover(); p != nil { // of godbus, for types such as chan
			err = errors.New("D-Bus has no such type")
		}
	}()
	switch n := value.(type) {
	case int:
		value = int64(n)
	case uint:
		value = uint64(n)
	}
	return dbus.MakeVariant(value), nil
}

// refusal names an error on the bus.
func refusal(err error) *dbus.Error {
	name := errorFailed
	switch {
	case errors.Is(err, ErrInactive):
		name = ErrorInactive
	case errors.Is(err, ErrHoldLost):
		name = ErrorHoldLost
	}
	return dbus.NewError(name, []any{err.Error()})
}
