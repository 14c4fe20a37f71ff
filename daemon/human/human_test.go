package human

import (
	"testing"
	"time"
)

func TestSize(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.00 KiB", 10 << 10: "10.0 KiB", 1<<20 - 1: "1.00 MiB", 300 << 20: "300 MiB",
		1023 << 20: "1023 MiB", 10 << 30: "10.0 GiB", 1 << 62: "4.00 EiB", ^uint64(0): "16.0 EiB",
	} {
		if got := Size(n); got != want {
			t.Errorf("Size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 µs", 412 * time.Microsecond: "412 µs", 1500 * time.Microsecond: "1.50 ms", 26700 * time.Microsecond: "26.7 ms",
		153 * time.Millisecond: "153 ms", 2590 * time.Millisecond: "2.59 s", 61 * time.Second: "1m1s",
	} {
		if got := Span(d); got != want {
			t.Errorf("Span(%d) = %q, want %q", d, got, want)
		}
	}
}

func TestRoughly(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "1s", 45 * time.Second: "45s", 12*time.Minute + 30*time.Second: "12m", 310 * time.Minute: "5h 10m", 76 * time.Hour: "3d 4h", 1 << 62: "> 100d",
	} {
		if got := Roughly(d); got != want {
			t.Errorf("Roughly(%d) = %q, want %q", d, got, want)
		}
	}
}
