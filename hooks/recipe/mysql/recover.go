package mysql

import (
	"context"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

var _ recipe.Recoverer = (*writer)(nil)

// Recover has a server recover the image, and shut down. It begins a new binary log, as at every start.
func (w *writer) Recover(ctx context.Context, r hooks.Request) (map[string]any, error) {
	i, err := openImage(ctx, w.options, r)
	if err != nil {
		return nil, err
	}
	if err := i.serve(ctx, func(*session) error { return nil }); err != nil {
		return nil, err
	}
	return map[string]any{"recovered": true}, nil
}
