package labtest

import (
	"testing"
	"time"
)

// State is what exists, as CheckClean looks at it.
type State map[string]string

// Look notes what exists.
func Look(t testing.TB) State {
	t.Helper()
	return state(t)
}

// Same fails the test if something else exists by now.
func (s State) Same(t testing.TB) {
	t.Helper()
	d := ""
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(100 * time.Millisecond) { // udev lets go late
		if d = diff(s, state(t)); d == "" || time.Now().After(end) {
			break
		}
	}
	if d != "" {
		t.Errorf("changed:\n%s", d)
	}
}

// Unchanged notes what exists. check compares it with what exists by then: a test calls it after it has deleted its sets,
// while its volumes are still there.
func Unchanged(t testing.TB) (check func()) {
	t.Helper()
	before := Look(t)
	return func() {
		t.Helper()
		before.Same(t)
	}
}
