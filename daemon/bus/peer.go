package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/dbuswriter"
)

// peer is the service of one registration.
type peer struct {
	conn  *dbus.Conn
	owner string // unique name
	path  dbus.ObjectPath
	left  func() // the bus said, in an answer, that the service is not there
	gone  atomic.Pointer[error]
}

var _ hooks.Remote = (*peer)(nil)

// Gone implements hooks.Remote.
func (p *peer) Gone() error {
	if err := p.gone.Load(); err != nil {
		return *err
	}
	return nil
}

// lose says that the registration ended, and why; false: it had ended before.
func (p *peer) lose(why error) bool { return p.gone.CompareAndSwap(nil, &why) }

var methodOf = map[hooks.Phase]string{
	hooks.PhasePrepare: "Prepare", hooks.PhaseFreeze: "Freeze", hooks.PhaseThaw: "Thaw", hooks.PhaseAbort: "Abort", hooks.PhasePost: "Post",
	hooks.PhaseReport: "Report",
}

// Ask implements hooks.Remote.
func (p *peer) Ask(ctx context.Context, r hooks.Request) (hooks.Answer, error) {
	if err := p.Gone(); err != nil {
		return hooks.Answer{}, err
	}
	var said map[string]dbus.Variant
	err := p.conn.Object(p.owner, p.path).CallWithContext(ctx, dbuswriter.Interface+"."+methodOf[r.Phase], dbus.FlagNoAutoStart, event(r)).Store(&said)
	if err != nil {
		return p.refused(r.Phase, err)
	}
	data, err := plainObject(said)
	if err != nil {
		return hooks.Answer{}, fmt.Errorf("its answer to %s cannot be used: %w", r.Phase, err)
	}
	return hooks.Answer{Data: data}, nil
}

// event is what a service is told.
func event(r hooks.Request) map[string]dbus.Variant {
	o := map[string]dbus.Variant{
		"set": dbus.MakeVariant(r.Set), "dry_run": dbus.MakeVariant(r.DryRun), "timeout_ms": dbus.MakeVariant(uint64(max(1, r.Timeout.Milliseconds()))),
	}
	if r.Policy != "" {
		o["policy"] = dbus.MakeVariant(r.Policy)
	}
	if r.Outcome != "" {
		o["outcome"] = dbus.MakeVariant(string(r.Outcome))
	}
	if r.Phase == hooks.PhasePrepare || r.Phase == hooks.PhaseReport {
		o["volumes"] = dbus.MakeVariant(append([]string{}, r.Volumes...))
	}
	return o
}

// refused reads an error of the bus as a writer's answer.
func (p *peer) refused(phase hooks.Phase, err error) (hooks.Answer, error) {
	var e dbus.Error
	if !errors.As(err, &e) {
		if gone := p.Gone(); gone != nil {
			err = gone
		}
		return hooks.Answer{}, err
	}
	said := oneLine(e.Error())
	switch {
	case e.Name == dbuswriter.ErrorInactive && phase == hooks.PhasePrepare:
		return hooks.Answer{Inactive: true, Text: said}, nil
	case e.Name == dbuswriter.ErrorHoldLost && phase == hooks.PhaseThaw:
		return hooks.Answer{}, fmt.Errorf("%w: %s", hooks.ErrHoldLost, said)
	case strings.HasPrefix(e.Name, "org.freedesktop.DBus.Error.Unknown"):
		return hooks.Answer{}, fmt.Errorf("%s has no %s at %s: %s", p.owner, dbuswriter.Interface, p.path, said)
	case e.Name == "org.freedesktop.DBus.Error.NoReply", e.Name == "org.freedesktop.DBus.Error.NameHasNoOwner", e.Name == "org.freedesktop.DBus.Error.ServiceUnknown":
		p.left() // its answer may come before the signal
		return hooks.Answer{}, errLeft
	}
	return hooks.Answer{}, errors.New(said)
}

// oneLine bounds a service's words.
func oneLine(s string) string {
	const limit = 4 << 10
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	if s == "" {
		return "no reason given"
	}
	return s
}

// plainObject makes of a service's data what JSON can hold, with numbers as package hooks gives them.
func plainObject(said map[string]dbus.Variant) (map[string]any, error) {
	if len(said) == 0 {
		return nil, nil
	}
	value, err := plain(reflect.ValueOf(said))
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err // a number that is none
	}
	if len(text) > hooks.MaxLine {
		return nil, fmt.Errorf("it has %d bytes as JSON, at most %d are allowed", len(text), hooks.MaxLine)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var data map[string]any
	return data, d.Decode(&data)
}

// plain unpacks variants. D-Bus bounds how deep they are.
func plain(v reflect.Value) (any, error) {
	if x, ok := v.Interface().(dbus.Variant); ok {
		return plain(reflect.ValueOf(x.Value()))
	}
	switch v.Kind() {
	case reflect.Map:
		out := map[string]any{}
		for _, key := range v.MapKeys() {
			x, err := plain(v.MapIndex(key))
			if err != nil {
				return nil, err
			}
			out[fmt.Sprint(key.Interface())] = x
		}
		return out, nil
	case reflect.Slice:
		out := make([]any, v.Len())
		for i := range out {
			x, err := plain(v.Index(i))
			if err != nil {
				return nil, err
			}
			out[i] = x
		}
		return out, nil
	case reflect.Bool, reflect.Uint8, reflect.Int16, reflect.Uint16, reflect.Int32, reflect.Uint32, reflect.Int64, reflect.Uint64, reflect.Float64, reflect.String:
		switch v.Interface().(type) {
		case dbus.UnixFD, dbus.UnixFDIndex:
			return nil, errors.New("it has a file descriptor")
		}
		return v.Interface(), nil
	case reflect.Struct: // a signature
		return fmt.Sprint(v.Interface()), nil
	}
	return nil, fmt.Errorf("it has a value of type %v", v.Type())
}
