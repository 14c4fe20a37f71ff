package labtest

import (
	"testing"
	"time"
)

// Unchanged notes what exists, as CheckClean does. check compares it with what exists by then: a test calls it after it has
// deleted its sets, while its volumes are still there.
func Unchanged(t testing.TB) (check func()) {
	t.Helper()
	before := state(t)
	return func() {
		t.Helper()
		d := ""
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(100 * time.Millisecond) { // udev lets go late
			if d = diff(before, state(t)); d == "" || time.Now().After(end) {
				break
			}
		}
		if d != "" {
			t.Errorf("changed:\n%s", d)
		}
	}
}
