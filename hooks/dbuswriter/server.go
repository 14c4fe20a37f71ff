package dbuswriter

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/godbus/dbus/v5"
)

// server is a writer on a connection.
type server struct {
	*Writer
	conn  *dbus.Conn
	ctx   context.Context
	owner atomic.Pointer[string] // fermatad's unique name; nil: not asked yet, empty: there is none

	turn turn
	// What follows is changed by who has the turn.
	frozen bool  // Freeze was called, and Thaw not yet
	holds  int   // how often Freeze was called
	lost   error // why it was let go without having been asked
}

// turn is a lock that can be waited for with a context; it holds one value while it is taken.
type turn chan struct{}

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) end() { <-t }

// phases are the methods, each with what it does.
func (s *server) phases() map[string]Func {
	return map[string]Func{"Prepare": optional(s.Prepare), "Freeze": s.freeze, "Thaw": s.thaw, "Abort": s.abort, "Post": optional(s.Post),
		"Report": optional(s.Report)}
}

func optional(f Func) Func {
	if f == nil {
		return func(context.Context, Event) (map[string]any, error) { return nil, nil }
	}
	return f
}

// method is what the bus calls. Only fermatad is heard.
func (s *server) method(name string) any {
	do := s.phases()[name]
	return func(sender dbus.Sender, options map[string]dbus.Variant) (out map[string]dbus.Variant, refused *dbus.Error) {
		if !s.known(string(sender)) {
			return nil, dbus.NewError(errorDenied, []any{"only fermatad may ask a writer"})
		}
		e := parseEvent(options)
		ctx, cancel := s.ctx, context.CancelFunc(func() {})
		if e.Timeout > 0 {
			ctx, cancel = context.WithTimeout(ctx, e.Timeout)
		}
		defer cancel()
		if err := s.turn.take(ctx); err != nil {
			return nil, refusal(fmt.Errorf("an earlier call has not returned: %w", err))
		}
		defer s.turn.end()
		data, err := do(ctx, e)
		if err != nil {
			return nil, refusal(err)
		}
		return answer(data)
	}
}

// known reports whether a sender is fermatad. It is asked for if nobody has told us of it yet: it may call before the answer
// to the registration is read.
func (s *server) known(sender string) bool {
	if owner := s.owner.Load(); owner != nil && *owner == sender {
		return true
	}
	ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
	defer cancel()
	var owner string
	err := s.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetNameOwner", 0, busName).Store(&owner)
	return err == nil && owner == sender
}

func (s *server) freeze(ctx context.Context, e Event) (map[string]any, error) {
	if s.ctx.Err() != nil {
		return nil, errors.New("it is stopping")
	}
	if s.frozen {
		return nil, errors.New("it was asked to freeze twice")
	}
	s.frozen, s.lost = true, nil
	s.holds++
	limit := s.MaxHold
	if limit <= 0 {
		limit = defaultMaxHold
	}
	data, err := s.Freeze(ctx, e)
	hold := s.holds
	time.AfterFunc(limit, func() { s.release(hold, fmt.Errorf("it held for %v, and nobody let it go", limit)) })
	return data, err
}

func (s *server) thaw(ctx context.Context, e Event) (map[string]any, error) {
	if s.lost != nil {
		defer func() { s.lost = nil }()
		return nil, fmt.Errorf("%w: %w", ErrHoldLost, s.lost)
	}
	if !s.frozen {
		return nil, nil
	}
	return s.letGo(ctx, e)
}

func (s *server) abort(ctx context.Context, e Event) (map[string]any, error) {
	var err error
	if s.frozen {
		_, err = s.letGo(ctx, e)
	}
	data, abortErr := optional(s.Abort)(ctx, e)
	return data, errors.Join(err, abortErr)
}

// letGo calls Thaw, once for each Freeze.
func (s *server) letGo(ctx context.Context, e Event) (map[string]any, error) {
	s.frozen = false
	return s.Thaw(ctx, e)
}

// anyHold is that which there is.
const anyHold = -1

// release lets go a hold that nobody will ask to be let go. It waits for a call that is being worked on.
func (s *server) release(hold int, why error) {
	if err := s.turn.take(context.Background()); err != nil {
		return
	}
	defer s.turn.end()
	if !s.frozen || hold != anyHold && hold != s.holds {
		return
	}
	s.lost = why
	if _, err := s.letGo(context.Background(), Event{Outcome: "failed"}); err != nil {
		s.lost = errors.Join(why, err)
	}
}
