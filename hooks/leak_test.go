package hooks_test

import (
	"os"
	"runtime"
	"runtime/pprof"
	"testing"
	"time"

	"github.com/fermata-project/fermata/hooks"
)

// A daemon runs for years: neither whole sets nor broken ones leave a goroutine
// or a descriptor.
func TestNothingLeaks(t *testing.T) {
	descriptors := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	hanging := testWriterSpec(t, "hang=thaw")
	hanging.Timeouts.Thaw = 100 * time.Millisecond
	round := func() {
		for _, spec := range []hooks.Spec{
			testWriterSpec(t, ""), testWriterSpec(t, "exit=hold"), testWriterSpec(t, "garbage=freeze"), hanging,
			script(t, `exit 1`), commandSpec(t, `echo hello`), commandSpec(t, `sleep 3 & exit 1`),
		} {
			w, err := hooks.New(spec)
			if err != nil {
				t.Fatal(err)
			}
			drive(w, unique(t), 20*time.Millisecond)
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	round() // what is opened once stays
	goroutines, open := runtime.NumGoroutine(), descriptors()
	round()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if runtime.NumGoroutine() <= goroutines && descriptors() <= open {
			return
		}
		if time.Now().After(end) {
			t.Errorf("%d goroutines, before %d; %d descriptors, before %d", runtime.NumGoroutine(), goroutines, descriptors(), open)
			_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
			return
		}
	}
}
