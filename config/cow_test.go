package config

import (
	"strings"
	"testing"
)

func TestParseCOW(t *testing.T) {
	for text, want := range map[string]COW{
		"10%": {Percent: 10}, "100%": {Percent: 100}, "200%used": {UsedPercent: 200}, "12.5%used": {UsedPercent: 12.5}, "5G": {Size: 5 << 30},
	} {
		got, err := ParseCOW(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%q: %+v (%v), %v, want %+v", text, got, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"0": "it is nothing", "0%": "it is nothing", "0%used": "it is nothing", "101%": "out of range", "1001%used": "out of range",
		"5": "no unit", "%used": "no number", "-1%used": "negative", "10% used": "unknown unit", "5G%used": "is no number",
	} {
		if got, err := ParseCOW(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v, want an error with %q", text, got, err, want)
		}
	}
}

func TestCOWOf(t *testing.T) {
	for _, c := range []struct {
		cow              COW
		size, used, want uint64
	}{
		{COW{Percent: 10}, 1001, 500, 101},
		{COW{UsedPercent: 200}, 1000, 300, 600},
		{COW{UsedPercent: 50}, 1000, 3, 2},
		{COW{Size: 4096}, 100, 100, 4096},
	} {
		if got := c.cow.Of(c.size, c.used); got != c.want {
			t.Errorf("%v of %d, %d used: %d, want %d", c.cow, c.size, c.used, got, c.want)
		}
	}
}
