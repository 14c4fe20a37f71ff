// Package bus exports an [api.Service] on D-Bus as org.fermata.Fermata1.
//
// Three rules shape it.
//
// Nothing that a client sends may block or stop the transaction. Long work runs as a job, in a goroutine of its own that
// never talks to the bus: it stores its phase in a cell and goes on. One goroutine, the announcer, looks at the cells and
// emits the signals; if the bus is stuck, only the announcer is.
//
// What is exported, what is introspected and who may call it come from one table (type [iface]): a method that is not in
// the table cannot be called, and a method in the table cannot be called without its action having been authorised.
//
// The bus may go away: jobs go on, and the connection is made anew. Objects hold no state of a connection.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/writers"
)

// ErrNameTaken: another process owns org.fermata.Fermata1.
var ErrNameTaken = errors.New("another fermatad owns " + api.BusName)

const (
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 15 * time.Second
	// phaseInterval is how often the announcer looks at the phases of running jobs. A job does not wake it: a wake-up
	// inside the freeze window would cost more than the window's own calls. No job runs: no timer does.
	phaseInterval = 100 * time.Millisecond
	// lastReplies is what the answers to Wait get to leave by before the connection is closed: godbus sends them from
	// goroutines that nobody can wait for.
	lastReplies = 50 * time.Millisecond
)

// Server exports a service. Make one with New.
type Server struct {
	// Writers is where services register; nil: they cannot. It is set before Serve.
	Writers *writers.Registry
	// Reload has the daemon read its configuration anew, or says why that is refused; nil: it cannot. It is set before Serve.
	Reload *Reload

	svc  api.Service
	auth func(*dbus.Conn) Authorizer
	log  *slog.Logger

	jobs  *jobs
	ready chan struct{}
	wake  chan struct{} // 1 deep: something must be announced
	acts  poolActs
	once  sync.Once
}

// New makes a server of svc. Auth makes the authorizer of a connection; [Polkit] is the real one. A nil log discards.
func New(svc api.Service, auth func(*dbus.Conn) Authorizer, log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{svc: svc, auth: auth, log: log, ready: make(chan struct{}), wake: make(chan struct{}, 1)}
	s.jobs = newJobs(s.poke)
	return s
}

// Busy reports whether a job is running, or a service is registered as a writer. A daemon that is busy must not exit for
// idleness.
func (s *Server) Busy() bool {
	return s.jobs.running() > 0 || s.Writers != nil && len(s.Writers.List()) > 0
}

// LastUsed is when the last call of a client came in or the last job ended; zero if none did.
func (s *Server) LastUsed() time.Time { return s.jobs.lastUsed() }

// Ready is closed once the name is owned and every object is exported.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Changed tells the server that the sets changed for another reason than its own jobs (retention, a snapshot that
// became invalid), so that it announces them. It never blocks.
func (s *Server) Changed() {
	s.jobs.setsChanged()
	s.poke()
}

func (s *Server) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Serve answers on the bus until ctx ends; connect gives an authenticated connection that has said Hello. A lost bus is
// connected to again, for as long as it takes; running jobs are not touched by that. When ctx ends, running jobs are
// cancelled, and Serve returns after the last one has undone what it did and its requester was told.
//
// It fails at once only when the name belongs to somebody else: errors.Is(err, ErrNameTaken).
func (s *Server) Serve(ctx context.Context, connect func() (*dbus.Conn, error)) error {
	s.jobs.begin(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.serve(ctx, connect) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	s.jobs.wait()
	select {
	case err := <-ended:
		return err
	case <-time.After(busTimeout):
		s.log.Warn("the bus takes nothing any more: its clients were not told of the end")
		return nil
	}
}

// serve is Serve, which does not wait for a bus that is stuck.
func (s *Server) serve(ctx context.Context, connect func() (*dbus.Conn, error)) error {
	backoff := firstBackoff
	for {
		began := time.Now()
		err := s.serveOnce(ctx, connect)
		if ctx.Err() != nil {
			s.jobs.wait()
			return nil
		}
		if errors.Is(err, ErrNameTaken) {
			return err
		}
		if time.Since(began) > lastBackoff {
			backoff = firstBackoff
		}
		s.log.Warn("the bus is not available", "error", err, "retry_in", backoff)
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

// serveOnce serves one connection until it is lost, or ctx ended and the last job did.
func (s *Server) serveOnce(ctx context.Context, connect func() (*dbus.Conn, error)) error {
	conn, err := connect()
	if err != nil {
		return fmt.Errorf("cannot connect to the bus: %w", err)
	}
	defer conn.Close()

	l := &link{Server: s, conn: conn, auth: s.auth(conn), sets: map[string]setView{}, views: map[uint64]jobView{}}
	for _, o := range l.objects() {
		if err := l.export(o); err != nil {
			return err
		}
	}
	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	go l.watch(signals)
	defer l.writersVanished("", errBusLost)

	l.adopt()
	reply, err := conn.RequestName(api.BusName, dbus.NameFlagDoNotQueue)
	if err != nil {
		return fmt.Errorf("cannot own %s: %w", api.BusName, err)
	}
	if reply != dbus.RequestNameReplyPrimaryOwner {
		return fmt.Errorf("cannot own %s: %w", api.BusName, ErrNameTaken)
	}
	if s.Writers != nil {
		s.Writers.Open()
	}
	s.once.Do(func() { close(s.ready) })
	s.log.Info("on the bus", "name", api.BusName)
	return l.announceUntil(ctx)
}

// link is the server on one connection. The announcer's view of what clients were told lives here: it ends with the
// connection.
type link struct {
	*Server
	conn *dbus.Conn
	auth Authorizer

	sets  map[string]setView
	views map[uint64]jobView
	// version of the sets that clients were told.
	version uint64
}

// announceUntil emits what changes, until the connection is lost or ctx and the last job have ended.
func (l *link) announceUntil(ctx context.Context) error {
	stopping := ctx.Done()
	idle := make(chan struct{})
	for {
		var tick <-chan time.Time
		if l.jobs.running() > 0 {
			tick = time.After(phaseInterval)
		}
		select {
		case <-l.conn.Context().Done():
			return errors.New("the connection to the bus was lost")
		case <-stopping:
			stopping = nil
			go func() { l.jobs.wait(); close(idle) }()
			continue
		case <-idle:
			l.announce()
			time.Sleep(lastReplies)
			return nil
		case <-l.wake:
		case <-tick:
		}
		l.announce()
	}
}
