package bus

import (
	"context"
	"errors"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/writers"
	programs "github.com/fermata-project/fermata/hooks/child"
)

// registerWriter makes the caller a writer, for as long as it is on the bus.
func (l *link) registerWriter(c call, name string, path dbus.ObjectPath, o map[string]dbus.Variant) error {
	if l.Writers == nil {
		return api.Errorf(api.Failed, "this daemon takes no registrations")
	}
	w, err := decodeWriter(name, o)
	if err != nil {
		return err
	}
	if !path.IsValid() || len(path) > maxPathLength {
		return api.Errorf(api.Invalid, "%q is not the path of an object", shorten(string(path)))
	}
	if err := l.mayRegister(c, name); err != nil {
		return err
	}
	p := &peer{conn: l.conn, owner: string(c.sender), path: path}
	p.left = func() { l.writersVanished(p.owner, errLeft) }
	e := writers.Entry{Owner: p.owner, Writer: w, Remote: p}
	if err := l.watchOwner(p); err != nil {
		return api.Errorf(api.Failed, "cannot register writer %s: %w", name, err)
	}
	before, again := l.Writers.Lookup(name)
	if err := l.Writers.Register(e); err != nil {
		l.unwatchOwner(p)
		return err
	}
	if again {
		l.lose(before, errors.New("it registered anew"))
	}
	// It may have gone before the match was there.
	var present bool
	err = l.conn.BusObject().CallWithContext(c.ctx, busInterface+".NameHasOwner", 0, p.owner).Store(&present)
	if err == nil && !present {
		err = errLeft
	}
	if err != nil {
		l.lose(e, errLeft)
		return api.Errorf(api.Failed, "cannot register writer %s: %w", name, err)
	}
	l.log.Info("writer registered", "writer", name, "by", p.owner)
	return nil
}

// unregisterWriter ends a registration of the caller.
func (l *link) unregisterWriter(c call, name string) error {
	if l.Writers == nil {
		return api.Errorf(api.NotFound, "this daemon takes no registrations")
	}
	e, err := l.Writers.Unregister(name, string(c.sender))
	if err != nil {
		return err
	}
	l.lose(e, errors.New("it unregistered"))
	l.log.Info("writer unregistered", "writer", name, "by", e.Owner)
	return nil
}

// mayRegister is nil if the caller is the user of the writer's declaration, or is allowed the action.
func (l *link) mayRegister(c call, name string) error {
	user, err := l.Writers.May(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.ctx, authorizeTimeout)
	defer cancel()
	if user != "" {
		var uid uint32
		err := l.conn.BusObject().CallWithContext(ctx, busInterface+".GetConnectionUnixUser", 0, string(c.sender)).Store(&uid)
		if err == nil && isUser(user, uid) {
			return nil
		}
	}
	return c.authorize(RegisterWriter, Details{"writer": name})
}

// isUser reports whether a name or number of the configuration is a user's.
func isUser(name string, uid uint32) bool {
	who, err := programs.Identify(name, "")
	return err == nil && who.Credential != nil && who.Credential.Uid == uid
}

var errLeft = errors.New("its service has left the bus")

// watchOwner has the bus tell when a writer's service leaves.
func (l *link) watchOwner(p *peer) error {
	ctx, cancel := context.WithTimeout(l.conn.Context(), busTimeout)
	defer cancel()
	return l.conn.AddMatchSignalContext(ctx, ownerMatch(p.owner)...)
}

func (l *link) unwatchOwner(p *peer) {
	ctx, cancel := context.WithTimeout(l.conn.Context(), busTimeout)
	defer cancel()
	if err := l.conn.RemoveMatchSignalContext(ctx, ownerMatch(p.owner)...); err != nil {
		l.log.Debug("cannot stop watching a writer", "owner", p.owner, "error", err)
	}
}

func ownerMatch(owner string) []dbus.MatchOption {
	return []dbus.MatchOption{
		dbus.WithMatchSender(busInterface), dbus.WithMatchInterface(busInterface),
		dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, owner),
	}
}

// lose ends what a registration was good for. The hold is broken at once; what talks to the bus, or logs, comes after.
func (l *link) lose(e writers.Entry, why error) {
	p, ours := e.Remote.(*peer)
	if !ours || !p.lose(why) {
		return
	}
	l.Writers.Forget(e)
	if p.conn != l.conn || errors.Is(why, errBusLost) {
		return
	}
	go l.unwatchOwner(p)
}

// writersVanished loses the writers of a connection; of all, if owner is empty.
func (l *link) writersVanished(owner string, why error) {
	if l.Writers == nil {
		return
	}
	for _, e := range l.Writers.List() {
		if owner == "" || e.Owner == owner {
			l.lose(e, why)
			go l.log.Info("writer lost", "writer", e.Writer.Name, "by", e.Owner, "why", why)
		}
	}
}

var errBusLost = errors.New("the bus was lost")

func (l *link) testWriter(c call, writer string, o map[string]dbus.Variant) (dbus.ObjectPath, error) {
	r := api.WriterTestRequest{Writer: writer}
	var detach bool
	err := options(o).decode(map[string]field{"policy": text(&r.Policy, maxNameLength), "fail_if_busy": value(&r.FailIfBusy), "detach": value(&detach)})
	if err == nil && len(writer) > maxNameLength {
		err = api.Errorf(api.Invalid, "the name of a writer has at most 64 bytes")
	}
	if err != nil {
		return "/", err
	}
	j, err := l.jobs.start("writer-test", c, func(ctx context.Context, j *job) (any, error) {
		return l.svc.TestWriter(ctx, r, j.setPhase)
	})
	if err == nil && !detach {
		l.follow(j)
	}
	return pathOf(j, err)
}
