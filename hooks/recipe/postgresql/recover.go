package postgresql

import (
	"context"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

var _ recipe.Recoverer = (*writer)(nil)

// Recover has the server recover the image, and shut down. A standby's image is left as it is: it would become a primary.
func (w *writer) Recover(ctx context.Context, r hooks.Request) (map[string]any, error) {
	i, err := openImage(w.options, r)
	if err != nil {
		return nil, err
	}
	if i.standby {
		return map[string]any{"recovered": false, "standby": true}, nil
	}
	if err := i.recover(ctx, false); err != nil {
		return nil, err
	}
	state, err := i.control(ctx)
	if err != nil {
		return nil, err
	}
	return map[string]any{"recovered": true, "checkpoint": state["Latest checkpoint location"]}, nil
}
