package provider

import "context"

type armedKey struct{}

// WithArmed returns a context for Prepare, by which a provider tells as often as it has armed one more of several snapshots.
// Prepare may go on after its caller has given it up: armed is safe to be called then, and from any goroutine.
func WithArmed(ctx context.Context, armed func()) context.Context {
	return context.WithValue(ctx, armedKey{}, armed)
}

// Armed tells whoever waits for Prepare that one more snapshot is armed.
func Armed(ctx context.Context) {
	if armed, ok := ctx.Value(armedKey{}).(func()); ok {
		armed()
	}
}
