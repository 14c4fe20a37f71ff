package bus

import (
	"context"
	"sync"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
)

// hold is a job's part in a hold without a snapshot: two channels, so that neither side waits for the other.
type hold struct {
	held    chan struct{} // closed when everything is held
	release chan bool     // 1 deep
	once    sync.Once
}

func newHold() *hold { return &hold{held: make(chan struct{}), release: make(chan bool, 1)} }

// isHeld is called inside the freeze window.
func (h *hold) isHeld() { h.once.Do(func() { close(h.held) }) }

func (l *link) quiesce(c call, o map[string]dbus.Variant) (dbus.ObjectPath, error) {
	request, detach, err := decodeQuiesce(o)
	if err != nil {
		return "/", err
	}
	c.policy = request.Policy
	h := newHold()
	j, err := l.jobs.startHold("quiesce", c, h, func(ctx context.Context, j *job) (any, error) {
		return l.svc.Quiesce(ctx, request, api.Hold{Held: h.isHeld, Release: h.release}, j.setPhase)
	})
	if err == nil && !detach {
		l.follow(j)
	}
	return pathOf(j, err)
}

// holding is the hold of the job at a path.
func (l *link) holding(path dbus.ObjectPath) (*job, *hold, error) {
	j, err := l.jobs.find(path)
	if err != nil {
		return nil, nil, err
	}
	if j.hold == nil {
		return nil, nil, api.Errorf(api.Invalid, "job %s holds nothing: its kind is %s", j.name(), j.kind)
	}
	return j, j.hold, nil
}

func (l *link) waitHeld(c call) (bool, error) {
	j, h, err := l.holding(c.path)
	if err != nil {
		return false, err
	}
	select {
	case <-h.held:
		return true, nil
	case <-j.done:
	case <-c.ctx.Done():
		return false, api.Errorf(api.Failed, "the connection to the bus was lost")
	}
	select {
	case <-h.held: // and released since
		return true, nil
	default:
		return false, nil
	}
}

func (l *link) releaseJob(c call, done bool) error {
	j, h, err := l.holding(c.path)
	if err != nil {
		return err
	}
	if err := l.ownsJob(c, j); err != nil {
		return err
	}
	select {
	case <-h.held:
	default:
		return api.Errorf(api.Refused, "cannot release job %s: nothing is held yet (Cancel ends it)", j.name())
	}
	select {
	case h.release <- done:
	default: // it has been released
	}
	return nil
}
