package config

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "1ns": 1, "3us": 3000, "3µs": 3000, "500ms": 500 * time.Millisecond, "10s": 10 * time.Second,
		"1h30m": 90 * time.Minute, "1.5d": 36 * time.Hour, "2w": 14 * 24 * time.Hour, "1d12h": 36 * time.Hour,
		".5s": 500 * time.Millisecond, "1.s": time.Second, "9223372036854775807ns": math.MaxInt64,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"": "no number", "s": "no number", ".s": "no number", "10": "no unit", "1h10": "no unit", "1.2.3s": "is no number",
		"-1s": "negative", "+1s": "no number", "10 s": "unknown unit", "10S": "unknown unit", "1y": "unknown unit",
		"1e3s": "unknown unit", "9223372036854775808ns": "too great", "15251w": "too great", "15250w15250w": "too great",
		"1.5" + strings.Repeat("9", 400) + "w": "", strings.Repeat("9", 400) + ".5s": "too great", "0x10s": "unknown unit",
	} {
		got, err := ParseDuration(text)
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, %v, want an error with %q", text, got, err, want)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0s": 0, "1ms": time.Millisecond, "10m": 10 * time.Minute, "1h": time.Hour, "1h30m": 90 * time.Minute,
		"1m1s": 61 * time.Second, "1d": 24 * time.Hour, "2w": 14 * 24 * time.Hour, "25h": 25 * time.Hour,
	} {
		if got := formatDuration(d); got != want {
			t.Errorf("%v: %q, want %q", int64(d), got, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "4096": 4096, "4096B": 4096, "1K": 1 << 10, "512M": 512 << 20, "5G": 5 << 30, "5g": 5 << 30, "5GiB": 5 << 30,
		"1.5KiB": 1536, "2T": 2 << 40, "1P": 1 << 50, "15E": 15 << 60, "18446744073709551615": math.MaxUint64,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"": "no number", "G": "no number", "-1": "negative", "5GB": "powers of 1024", "5kb": "powers of 1024", "5X": "unknown unit",
		"5Gi": "unknown unit", "5 G": "unknown unit", "16E": "too great", "18446744073709551616": "too great",
		"1.2.3K": "is no number", "10%": "unknown unit", "5€": "unknown unit",
	} {
		if got, err := ParseSize(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %d, %v, want an error with %q", text, got, err, want)
		}
	}
}

func TestSizeString(t *testing.T) {
	for want, s := range map[string]Size{
		"0": 0, "100": 100, "1K": 1 << 10, "1537K": 1537 << 10, "5G": 5 << 30, "1E": 1 << 60, "18446744073709551615": math.MaxUint64,
	} {
		if got := s.String(); got != want {
			t.Errorf("%d: %q, want %q", uint64(s), got, want)
		}
		if back, err := ParseSize(want); err != nil || back != s {
			t.Errorf("%q: %d, %v, want %d", want, back, err, s)
		}
	}
}

func TestParseSpace(t *testing.T) {
	for text, want := range map[string]Space{
		"0": {}, "0%": {}, "10%": {Percent: 10}, "2.5%": {Percent: 2.5}, "100%": {Percent: 100}, "5G": {Size: 5 << 30}, "7B": {Size: 7},
	} {
		if got, err := ParseSpace(text); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"5": "no unit", "100.5%": "out of range", "-1%": "negative", "%": "no number", "5G%": "is no number", "x": "no number",
		"5%%": "is no number", "10 %": "is no number",
	} {
		if got, err := ParseSpace(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v, want an error with %q", text, got, err, want)
		}
	}
}

func TestSpaceOf(t *testing.T) {
	for _, c := range []struct {
		space       Space
		total, want uint64
		text        string
	}{
		{Space{}, 100, 0, "0"},
		{Space{Percent: 10}, 1000, 100, "10%"},
		{Space{Percent: 2.5}, 41, 2, "2.5%"},
		{Space{Percent: 100}, 1 << 50, 1 << 50, "100%"},
		{Space{Size: 5 << 20}, 1000, 5 << 20, "5M"},
	} {
		if got := c.space.Of(c.total); got != c.want || c.space.String() != c.text {
			t.Errorf("%+v of %d: %d, %q, want %d, %q", c.space, c.total, got, c.space, c.want, c.text)
		}
	}
}

func FuzzUnits(f *testing.F) {
	for _, text := range []string{"10s", "1.5d", "1h30m", "5GiB", "4096", "10%", "-1", "", "9223372036854775807ns", "1e9", "µs"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := ParseDuration(text); err == nil {
			if back, err := ParseDuration(formatDuration(d)); d < 0 || err != nil || back != d {
				t.Errorf("%q is %d, written %q, read as %d, %v", text, d, formatDuration(d), back, err)
			}
		}
		if s, err := ParseSize(text); err == nil {
			if back, err := ParseSize(s.String()); err != nil || back != s {
				t.Errorf("%q is %d, written %q, read as %d, %v", text, s, s, back, err)
			}
		}
		if s, err := ParseSpace(text); err == nil {
			if s.Percent < 0 || s.Percent > 100 || s.Percent > 0 && s.Size > 0 {
				t.Errorf("%q is %+v", text, s)
			}
		}
	})
}
