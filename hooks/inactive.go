package hooks

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// errStarted says that nobody held an application that was at rest when it was asked.
var errStarted = errors.New("its application did not run when it was asked to prepare, and was started meanwhile")

// StillInactive asks the writers that were inactive once more, after the thaw: an application that was started meanwhile was
// held by nobody. It fails as a hold that was lost does; Abort is due then.
func (g *Group) StillInactive(ctx context.Context) error {
	due := g.filter(func(m *member) bool { return m.state == StateInactive })
	errs := make([]error, len(due))
	var all sync.WaitGroup
	for i, m := range due {
		all.Go(func() {
			begin := time.Now()
			if err := g.stillInactive(ctx, m); err != nil {
				err = phaseError(PhaseThaw, m.spec.Name, fmt.Errorf("%w: %w", ErrHoldLost, err))
				errs[i] = g.keep(m, Result{Writer: m.spec.Name, Phase: PhaseThaw, Began: begin, Duration: time.Since(begin), Err: err})
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (g *Group) stillInactive(ctx context.Context, m *member) (err error) {
	asked := m
	if s, ok := m.Writer.(*session); ok { // prepare is the first that a session hears
		again := &member{Writer: s.again(), spec: m.spec}
		defer func() { err = errors.Join(err, again.Close()) }()
		asked = again
	}
	a, err := bounded(ctx, PhasePrepare, asked, g.event)
	switch {
	case err != nil:
		return fmt.Errorf("whether its application still does not run: %w", err)
	case !a.Inactive:
		return errStarted
	}
	return nil
}
