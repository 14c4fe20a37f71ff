package bus

import (
	"context"
	"time"

	"github.com/godbus/dbus/v5"
)

const busInterface = "org.freedesktop.DBus"

// busTimeout bounds a question to the bus itself.
const busTimeout = 5 * time.Second

// watch drains the connection's signals and cancels what a requester that vanished had asked for. Any client can send
// signals to this connection: they are dropped here, at once, so that none is queued.
func (l *link) watch(signals <-chan *dbus.Signal) {
	for s := range signals {
		if s.Sender != busInterface || s.Name != busInterface+".NameOwnerChanged" || len(s.Body) != 3 {
			continue
		}
		name, _ := s.Body[0].(string)
		if owner, _ := s.Body[2].(string); owner == "" {
			if name != "" {
				l.writersVanished(name, errLeft)
			}
			l.jobs.vanished(dbus.Sender(name))
		}
	}
}

// follow cancels a job when its requester's connection ends. It runs beside the job, not in it. A bus that does not
// answer costs the requester nothing but this service.
func (l *link) follow(j *job) {
	j.bound.Store(true)
	match := ownerMatch(string(j.owner))
	ctx, cancel := context.WithTimeout(l.conn.Context(), busTimeout)
	defer cancel()
	if err := l.conn.AddMatchSignalContext(ctx, match...); err != nil {
		l.log.Warn("cannot watch a requester: its job will go on if it vanishes", "requester", j.owner, "error", err)
		return
	}
	go func() {
		<-j.done
		ctx, cancel := context.WithTimeout(l.conn.Context(), busTimeout)
		defer cancel()
		if err := l.conn.RemoveMatchSignalContext(ctx, match...); err != nil {
			l.log.Debug("cannot stop watching a requester", "requester", j.owner, "error", err)
		}
	}()
	// It may have gone before the match was there.
	var present bool
	err := l.conn.BusObject().CallWithContext(ctx, busInterface+".NameHasOwner", 0, string(j.owner)).Store(&present)
	if err == nil && !present {
		j.cancel()
	}
}
