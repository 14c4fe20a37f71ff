package daemon

import (
	"context"
	"errors"

	"github.com/fermata-project/fermata/dm/provider"
)

// tidyLater removes what could not be undone as soon as that can be done: when everything that was left behind has returned,
// be it a call or a command of a provider. Nobody wakes up before.
func (d *Daemon) tidyLater() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tidying || d.life.Err() != nil {
		return
	}
	d.tidying = true
	d.background.Go(func() { d.tidyWhenSettled(d.life) })
}

func (d *Daemon) tidyWhenSettled(ctx context.Context) {
	for {
		err := d.settle(ctx)
		if err == nil {
			err = d.tidyInTurn(ctx)
		}
		d.mu.Lock()
		again := ctx.Err() == nil && (err == nil && len(d.undone) > 0 || waits(err))
		d.tidying = again
		d.mu.Unlock()
		if !again {
			if err != nil && ctx.Err() == nil {
				d.o.Log.Error("what an earlier set has left cannot be removed", "error", err)
			}
			return
		}
	}
}

func (d *Daemon) tidyInTurn(ctx context.Context) error {
	release, err := d.turn.take(ctx, false)
	if err != nil {
		return err
	}
	defer release()
	return d.tidy(ctx, d.undoLimit)
}

// waits reports whether an error is of something that was left behind, or comes behind it.
func waits(err error) bool {
	return errors.Is(err, errLeft) || errors.Is(err, errBehind) || errors.Is(err, provider.ErrLeftBehind)
}

// settle returns when nothing is left behind any more.
func (d *Daemon) settle(ctx context.Context) error {
	if err := d.calls.settle(ctx); err != nil {
		return err
	}
	for _, p := range d.o.Providers {
		if x, ok := p.(provider.Settler); ok {
			if err := x.Settle(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}
