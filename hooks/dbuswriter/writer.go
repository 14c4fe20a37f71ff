package dbuswriter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// Writer is a service's part in snapshot sets. Its fields are set before Serve, and not changed after.
type Writer struct {
	Name string // [A-Za-z0-9_-], 1 to 64 bytes

	// Freeze returns without error once the application holds still. Thaw lets it go on. Both are needed.
	Freeze, Thaw Func
	// Prepare gets ready, which may take long; Abort undoes that if no set comes about, otherwise Post tells the outcome.
	// Each may be nil.
	Prepare, Abort, Post Func
	// Report, if it is there, hears later how the backup went that somebody made of the set (Event.Outcome): whoever truncates
	// logs does so only then.
	Report Func

	// MaxHold is how long a hold may last before it is let go, whatever Fermata says; 0: five minutes.
	MaxHold time.Duration

	// Level, Timeouts and Components are used as far as no file in /etc/fermata/writers.d declares the writer; Components
	// also where that file names none.
	Level      string // front-end, back-end (the default) or system
	Timeouts   Timeouts
	Components []Component

	// Path is where the interface is exported; empty: below /org/fermata/Writer, by the name.
	Path dbus.ObjectPath
}

// Timeouts are how long Fermata waits for each phase, from 1 ms to 1 h; 0: its default.
type Timeouts struct{ Prepare, Freeze, Thaw, Abort, Post, Report time.Duration }

// Component is a group of files that belong together.
type Component struct {
	Name          string   // [A-Za-z0-9_-], 1 to 64 bytes
	Paths         []string // absolute
	Excludes      []string
	LogFiles      []string
	RestoreMethod string
}

const (
	defaultMaxHold = 5 * time.Minute
	callTimeout    = 30 * time.Second
)

// path of the object.
func (w *Writer) path() dbus.ObjectPath {
	if w.Path != "" {
		return w.Path
	}
	return dbus.ObjectPath("/org/fermata/Writer/" + strings.ReplaceAll(w.Name, "-", "_2d"))
}

// options of the registration.
func (w *Writer) options() map[string]dbus.Variant {
	o := map[string]dbus.Variant{}
	if w.Level != "" {
		o["level"] = dbus.MakeVariant(w.Level)
	}
	if w.Report != nil {
		o["report"] = dbus.MakeVariant(true)
	}
	limits := map[string]uint64{}
	for phase, limit := range map[string]time.Duration{"prepare": w.Timeouts.Prepare, "freeze": w.Timeouts.Freeze,
		"thaw": w.Timeouts.Thaw, "abort": w.Timeouts.Abort, "post": w.Timeouts.Post, "report": w.Timeouts.Report} {
		if limit > 0 {
			limits[phase] = uint64(max(1, limit.Milliseconds()))
		}
	}
	if len(limits) > 0 {
		o["timeouts_ms"] = dbus.MakeVariant(limits)
	}
	var components []map[string]dbus.Variant
	for _, c := range w.Components {
		components = append(components, map[string]dbus.Variant{
			"name": dbus.MakeVariant(c.Name), "paths": dbus.MakeVariant(c.Paths), "excludes": dbus.MakeVariant(c.Excludes),
			"log_files": dbus.MakeVariant(c.LogFiles), "restore_method": dbus.MakeVariant(c.RestoreMethod),
		})
	}
	if components != nil {
		o["components"] = dbus.MakeVariant(components)
	}
	return o
}

// Serve is a writer until ctx ends, which is no error, or until that is not possible any more: the connection was lost, or
// the registration was refused. While Fermata is not installed or not running it waits. A hold is let go before Serve
// returns. The connection stays open; it should be to the system bus.
func (w *Writer) Serve(ctx context.Context, conn *dbus.Conn) error {
	if w.Freeze == nil || w.Thaw == nil {
		return errors.New("cannot be a writer: both Freeze and Thaw are needed")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &server{Writer: w, conn: conn, ctx: ctx, turn: make(turn, 1)}
	table := map[string]any{}
	for name := range s.phases() {
		table[name] = s.method(name)
	}
	if err := conn.ExportMethodTable(table, w.path(), Interface); err != nil {
		return fmt.Errorf("cannot export %s: %w", Interface, err)
	}
	defer conn.Export(nil, w.path(), Interface)
	signals := make(chan *dbus.Signal, 16)
	conn.Signal(signals)
	defer conn.RemoveSignal(signals)
	match := []dbus.MatchOption{dbus.WithMatchSender("org.freedesktop.DBus"), dbus.WithMatchInterface("org.freedesktop.DBus"),
		dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, busName)}
	if err := conn.AddMatchSignalContext(ctx, match...); err != nil {
		return fmt.Errorf("cannot watch %s: %w", busName, err)
	}
	defer conn.RemoveMatchSignal(match...)
	err := s.follow(signals)
	cancel()
	s.release(anyHold, errors.New("it serves no longer")) // waits for a call that is being worked on
	return err
}

// follow registers with each fermatad that comes, until ctx ends.
func (s *server) follow(signals <-chan *dbus.Signal) error {
	for {
		if err := s.register(); err != nil && s.ctx.Err() == nil && s.conn.Connected() {
			return err
		}
		for changed := false; !changed; {
			select {
			case <-s.ctx.Done():
				s.unregister()
				return nil
			case <-s.conn.Context().Done():
				return errors.New("the connection to the bus was lost")
			case signal := <-signals:
				changed = signal != nil && signal.Name == "org.freedesktop.DBus.NameOwnerChanged" && len(signal.Body) == 3 && signal.Body[0] == busName
			}
		}
	}
}

// register tells the fermatad that is there now. It starts one if the bus can.
func (s *server) register() error {
	ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
	defer cancel()
	manager := s.conn.Object(busName, managerPath)
	if s.owner.Load() != nil { // the first time it is started, later it comes by itself
		if err := s.know(ctx); err != nil || *s.owner.Load() == "" {
			return err
		}
	}
	err := manager.CallWithContext(ctx, managerInterface+".RegisterWriter", 0, s.Name, s.path(), s.options()).Err
	if absent(err) {
		none := ""
		s.owner.Store(&none)
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot register writer %s: %w", s.Name, err)
	}
	return s.know(ctx)
}

// know asks the bus who fermatad is. A hold of another one is let go.
func (s *server) know(ctx context.Context) error {
	var owner string
	err := s.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetNameOwner", 0, busName).Store(&owner)
	if err != nil && !absent(err) {
		return fmt.Errorf("cannot tell who owns %s: %w", busName, err)
	}
	if was := s.owner.Swap(&owner); was != nil && *was != owner {
		s.release(anyHold, errors.New("fermatad has gone"))
	}
	return nil
}

// unregister tells fermatad, also if we do not know yet who that is: it may have heard of us.
func (s *server) unregister() {
	to := busName
	if owner := s.owner.Load(); owner != nil {
		to = *owner
	}
	if to == "" {
		return // there is none
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout/10)
	defer cancel()
	_ = s.conn.Object(to, managerPath).CallWithContext(ctx, managerInterface+".UnregisterWriter", dbus.FlagNoAutoStart, s.Name).Err // else it learns when we are gone
}

// absent reports whether an error says that nobody has the name and nobody could be started, or that who had it has just gone.
func absent(err error) bool {
	var e dbus.Error
	if !errors.As(err, &e) {
		return false
	}
	return e.Name == "org.freedesktop.DBus.Error.ServiceUnknown" || e.Name == "org.freedesktop.DBus.Error.NameHasNoOwner" ||
		e.Name == "org.freedesktop.DBus.Error.NoReply" || strings.HasPrefix(e.Name, "org.freedesktop.DBus.Error.Spawn.")
}
