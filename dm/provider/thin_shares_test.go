package provider

import (
	"maps"
	"testing"
)

func TestParseShares(t *testing.T) {
	got, err := parseShares("  1   104857600  0\n\n 16777215 65536 65536\n")
	if want := map[uint32]Used{1: {104857600, 0}, 1<<24 - 1: {65536, 65536}}; err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, text := range []string{"1 2", "1 2 3 4", "x 2 3", "1 -2 3", "16777216 1 1", "1 2 3\nDEV MAPPED EXCLUSIVE", "99999999999999999999 1 1"} {
		if got, err := parseShares(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}
