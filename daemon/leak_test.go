package daemon

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// Many sets, of which every third fails at some call, leave no goroutine behind that was not there after
// the first ones.
func TestManySetsLeaveNothing(t *testing.T) {
	plan := rehearse(t)
	random := rand.New(rand.NewPCG(1, 2))
	w := newWorld(t)
	d := w.daemon()
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var goroutines, failed int
	for i := range 300 {
		w.reset()
		w.tap = nil
		if i%3 == 0 {
			w.tap = on(plan.calls[random.IntN(len(plan.calls))], false, func() error { return errInjected })
		}
		m, err := w.take(t.Context(), d)
		w.tap = nil
		if err != nil {
			failed++
		} else if err := d.DeleteSet(t.Context(), m.ID); err != nil {
			t.Fatal(err)
		}
		if i == 30 {
			goroutines = runtime.NumGoroutine()
		}
	}
	if failed < 50 {
		t.Errorf("only %d of 300 failed: nothing was tested", failed)
	}
	const slack = 5 // what is about to end
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > goroutines+slack; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, and %d after 30 sets", runtime.NumGoroutine(), goroutines)
		}
	}
	w.clean(t, d)
}
